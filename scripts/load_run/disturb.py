"""What is done to the farm."""

import json
import time

# How long a drain may take.
DRAIN = 15
CHANGES = [
    ({"policy": "p2c"}, []),
    ({"policy": "round-robin"}, [("/k100", ["s2", "s3"])]),
    ({"policy": "inverse-connections", "per_request": True}, []),
    ({"policy": "least-connections"}, [("/k1", ["s1", "s2"]), ("/c1", ["s3"])]),
    ({"policy": "inverse-connections"}, []),
]


class Disturber:
    def __init__(self, servers, history, generator, tell, broken, look):
        self.servers, self.history, self.random = servers, history, generator
        self.tell, self.broken, self.look = tell, broken, look
        self.bag, self.targets, self.changes = [], [], 0
        self.selecting = None
        self.done = {kind: 0 for kind in self.kinds()}
        self.moved = 0

    def kinds(self):
        return {"reload": self.reload, "drain": self.drain, "migrate": self.migrate, "kill": self.kill, "app": self.app, "stop": self.stop}

    def next(self):
        """Each kind in turn, in another order each time."""
        if not self.bag:
            self.bag = list(self.kinds())
            self.random.shuffle(self.bag)
        kind = self.bag.pop()
        self.done[kind] += 1
        self.kinds()[kind]()

    def any(self, mortal=False):
        return self.random.choice(self.servers[1:] if mortal else self.servers)

    def reload(self):
        """SIGHUP, with a file that has changed."""
        balance, maps = CHANGES[self.changes % len(CHANGES)]
        self.changes += 1
        self.tell(f"reload of all: {json.dumps(balance)}, {len(maps)} rows of the URL map")
        # Maps change where sessions' requests go no more than others'; requests that are selected for one by one do move.
        if balance.get("per_request") and not self.selecting:
            self.selecting = self.history.moving()
        move = self.history.moving()
        for server in self.servers:
            before = server.log().count("reloaded: balance")
            server.balance, server.maps = dict(balance), maps
            server.write_config()
            server.device.send_signal(1)
            limit = time.monotonic() + 5
            while server.log().count("reloaded: balance") == before and time.monotonic() < limit:
                time.sleep(0.05)
            if server.log().count("reloaded: balance") == before:
                self.broken(f"{server.name}: its device has not taken a changed file within 5 s")
        move[1] = time.monotonic()
        if not balance.get("per_request") and self.selecting:
            self.selecting[1] = time.monotonic() + 1
            self.selecting = None

    def drained(self, server):
        """Drains a server until nothing is served there."""
        server.post("/drain")
        begin = time.monotonic()
        while time.monotonic() < begin + DRAIN:
            status = server.get("/drain")
            if status["left"] == 0:
                self.tell(f"{server.name} is drained after {time.monotonic() - begin:.1f} s: {status['moved']} moved, {status['forwarded']} forwarded")
                return
            time.sleep(0.1)
        rows = [row for table in ("local", "forward-connect") for row in server.rows(table) if row["state"] != "TIME-WAIT"]
        self.broken(f"{server.name}: still serves {status['left']} connections {DRAIN} s after it began to drain: {rows[:8]}")

    def drain(self):
        server = self.any()
        self.tell(f"drain of {server.name}")
        move = self.history.moving()
        self.drained(server)
        time.sleep(2)
        server.post("/undrain")
        move[1] = time.monotonic() + 1

    def migrate(self):
        """Some live connections move to another server."""
        server = self.any()
        other = self.random.choice([to for to in self.servers if to is not server])
        rows = [row for table in ("local", "forward-connect") for row in server.rows(table) if row["state"] == "ESTABLISHED"]
        chosen = self.random.sample(rows, min(10, len(rows)))
        self.tell(f"move of {len(chosen)} connections from {server.name} to {other.name}")
        move = self.history.moving()
        for row in chosen:
            status, answer = server.post("/migrate", {"flow": row["flow"], "to": other.name})
            self.moved += status == 202
            # It may have ended, or may not be one that moves.
            if status not in (202, 404, 409):
                self.broken(f"{server.name}: /migrate gave {status}: {answer}")
        move[1] = time.monotonic() + 5

    def kill(self):
        server, away = self.any(mortal=True), self.random.choice([0, 0.3, 2, 5])
        self.tell(f"SIGKILL of {server.name}'s device, for {away} s")
        # What it has counted goes with it.
        self.look()
        end = self.history.end(server.number, "kill")
        server.kill_device()
        end.dead = time.monotonic()
        self.come_back(server, end, away)

    def come_back(self, server, end, away):
        time.sleep(away)
        server.start_device()
        server.wait_up(len(self.servers))
        end.up = time.monotonic()

    def stop(self):
        server, away = self.any(mortal=True), self.random.choice([0, 1, 4])
        self.tell(f"orderly end of {server.name}'s device, for {away} s")
        move = self.history.moving()
        self.drained(server)
        self.look()
        end = self.history.end(server.number, "stop")
        status = server.stop_device()
        end.dead = time.monotonic()
        if status != 0:
            self.broken(f"{server.name}: exit status of its device after SIGTERM: {status}")
        move[1] = time.monotonic() + 1
        self.come_back(server, end, away)

    def app(self):
        server, away = self.any(), self.random.choice([0, 0.5, 4])
        self.tell(f"SIGKILL of {server.name}'s application, for {away} s")
        end = self.history.end(server.number, "app")
        server.kill_app()
        end.dead = time.monotonic()
        time.sleep(away)
        server.start_app()
        server.wait_app()
        end.up = time.monotonic()
