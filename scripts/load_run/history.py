"""What was done to the farm, and which errors that allows."""

import threading
import time
from dataclasses import dataclass, field

RULES = """\
An error is allowed only to a connection of what has ended:

  kill   SIGKILL of a device: connections that it served (its own), and those that were opened to its address (first server)
  stop   drain, then SIGTERM: connections that were opened to its address; those that it served have moved before
  app    SIGKILL of an application: connections that its server served, and no timeouts: they are reset

For the checking client: a connection's own server is the one that its last answer came from; it may be any other one after a
drain, a move, or while requests are selected for one by one. An own server's end counts if it lies between the begin of the last
exchange that went well and the error; a first server's end from then until one second after it is up again.
For wrk, whose errors have no time, in one interval: none without an end; any if its first server's device ended; at most one
read error for each of its connections otherwise, none at all for `stop`.
A body that is whole and not right, and a status other than 200, are never allowed. A request of a session goes to the server that has
the session, as long as that one lives and takes requests; but for as many as hand-overs were refused or not answered in time, or the
devices say that a server that was named could not be asked (it was silent), those of wrk included, and for no more than one in a hundred
of the sessions' requests; with --short for one in ten besides. A session that has moved counts once.

Memory is flat, in a run of six minutes at least (before, tables that keep for 60 s may be filling still): in the last third of the run no
device's resident memory is more than 10 % and 8 MB (buffers of some connections) above its peak in the middle third; s1's device is
never ended. Once all clients have ended, within two and a half minutes (TIME-WAIT, tombstones, sessions: 60 s each) these
are empty on every server: temporary, local, forward-connect, forward, tombstones, early-packets, outbox, cookie-map, kept packets,
endpoints' buffers, bridges; with --short those of them that keep nothing for 60 s, within half a minute. Those that stay by design:
listening-sockets, server-state, application-information, neighbours, url-map, ssl-map. Open descriptors are then as many as before the load.
No device ends by itself, writes an ERROR or panics; SIGTERM gives exit status 0; every reload is taken; every drain ends."""


@dataclass
class End:
    """A device or an application that was ended: it was told to, was dead, and was up again."""

    server: int
    kind: str
    at: float
    dead: float = float("inf")
    up: float = float("inf")


@dataclass
class History:
    ends: list = field(default_factory=list)
    # Times in which connections may move: begin, end.
    moves: list = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def end(self, server, kind):
        with self.lock:
            end = End(server, kind, time.monotonic())
            self.ends.append(end)
            return end

    def moving(self):
        with self.lock:
            move = [time.monotonic(), float("inf")]
            self.moves.append(move)
            return move

    def excuse(self, error):
        """The end that allows this error of the checking client, if any."""
        with self.lock:
            may_have_moved = any(begin <= error.at and end >= error.since for begin, end in self.moves)
            for end in self.ends:
                if end.at > error.at or error.kind in ("body", "status"):
                    continue
                if end.kind != "app" and end.server == error.first and end.up + 1 >= error.since:
                    return end
                own = error.owner is None or error.owner == end.server or may_have_moved
                timeout = end.kind == "app" and error.kind == "timeout"
                if end.kind != "stop" and own and not timeout and error.since <= end.dead:
                    return end
        return None

    def allows(self, result, begin):
        """Whether a run of wrk that began then may have its errors."""
        with self.lock:
            ends = [end for end in self.ends if end.up + 1 >= begin]
        if result["status"]:
            return False
        if any(end.server == result["first"] and end.kind != "app" for end in ends):
            return True
        others = sum(end.kind != "stop" for end in ends)
        silent = result["connect"] + result["write"] + result["timeout"]
        return not silent and result["read"] <= others * result["connections"]

    def lived(self, server, since):
        """Whether a server has lived and taken requests all the time."""
        with self.lock:
            ended = any(end.server == server and end.up + 1 >= since for end in self.ends)
            return not ended and not any(end + 1 >= since for _, end in self.moves)
