"""Clients: wrk, and one that checks every body."""

import hashlib
import http.client
import os
import random
import re
import subprocess
import threading
import time
from dataclasses import dataclass

from farm import DIR, PREFIX, Connection

# name, connections, path, further arguments
JOBS = [
    ("1 kB, kept alive", 8, "k1", []),
    ("1 kB, closing", 8, "k1", ["-H", "Connection: close"]),
    ("100 kB", 4, "k100", []),
    ("1 kB, with a session", 4, "k1", ["-s", f"{DIR}/session.lua"]),
]
SESSION = """
local cookie
request = function() return wrk.format(nil, nil, cookie and {["Cookie"] = cookie}) end
response = function(status, headers) cookie = (headers["Set-Cookie"] or cookie or ""):match("^[^;]*") end
"""


def make_files(seed):
    """What is asked for; the checking client's files with their hashes."""
    generator = random.Random(seed)
    os.mkdir(f"{DIR}/files")
    with open(f"{DIR}/session.lua", "w") as file:
        file.write(SESSION)
    sizes = {"k1": 1000, "k100": 100_000}
    checked = {f"c{at}": generator.choice([1, 300, 1444, 5_000, 60_000, 400_000]) + at for at in range(24)}
    hashes = {}
    for name, size in (sizes | checked).items():
        body = generator.randbytes(size)
        with open(f"{DIR}/files/{name}", "wb") as file:
            file.write(body)
        hashes[name] = hashlib.sha256(body).digest()
    return {name: hashes[name] for name in checked}


class Wrk:
    """One run of wrk, to one server."""

    def __init__(self, job, first, seconds):
        self.name, self.connections, path, arguments = job
        self.first, self.began = first, time.monotonic()
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", f"{PREFIX}-client", "wrk", "-t", "1", "-c", str(self.connections), "-d", f"{seconds}s",
             "--timeout", "10s", *arguments, f"http://10.77.0.1{first}/{path}"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )

    def result(self, patience):
        try:
            text, _ = self.process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            text, _ = self.process.communicate()
            text += "it did not end"
        requests = re.search(r"(\d+) requests in", text)
        if not requests or self.process.returncode:
            raise RuntimeError(f"wrk, {self.name}: {text}")
        errors = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
        status = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
        counts = [int(count) for count in errors.groups()] if errors else [0] * 4
        return {
            "job": self.name, "first": self.first, "connections": self.connections, "requests": int(requests[1]),
            **dict(zip(("connect", "read", "write", "timeout"), counts)), "status": int(status[1]) if status else 0,
        }


@dataclass
class Error:
    """An error of the checking client."""

    at: float
    # Begin of the last exchange that went well, or of the connection.
    since: float
    first: int
    # Who gave the last answer, if there was one.
    owner: int | None
    kind: str
    text: str


class Checker(threading.Thread):
    """Asks for files, and looks at every byte of them; `style` is how: keep, close, session."""

    def __init__(self, style, seed, hashes, history):
        super().__init__(daemon=True)
        self.style, self.hashes, self.history = style, hashes, history
        self.random = random.Random(seed)
        self.stopping = threading.Event()
        self.requests, self.errors, self.strayed = 0, [], []
        self.cookie = self.home = self.astray = None

    def run(self):
        while not self.stopping.is_set():
            self.connection()

    def pause(self, longest):
        self.stopping.wait(self.random.uniform(0, longest))

    def connection(self):
        first = self.random.randint(1, 3)
        most = 1 if self.style == "close" else self.random.choice([2, 10, 100, 1000])
        connection = Connection("client", f"10.77.0.1{first}")
        since, owner = time.monotonic(), None
        try:
            for _ in range(most if self.style != "session" else 1):
                begin = time.monotonic()
                owner = self.exchange(connection, first, since, owner)
                if owner is None or self.stopping.is_set():
                    return
                since = begin
                self.pause(0.3 if self.style != "close" else 0.1)
        except TimeoutError as error:
            self.fail(since, first, owner, "timeout", error)
        except (OSError, http.client.HTTPException) as error:
            self.fail(since, first, owner, "ended", error)
            # Nobody may be there.
            self.stopping.wait(0.2)
        finally:
            connection.close()

    def exchange(self, connection, first, since, owner):
        """One request and its answer; who gave it, `None` where it was not right."""
        name = self.random.choice(list(self.hashes))
        headers = {"Cookie": self.cookie} if self.cookie else {}
        if self.style != "keep":
            headers["Connection"] = "close"
        connection.request("GET", f"/{name}", headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            return self.fail(since, first, owner, "status", f"{answer.status} for {name}")
        if hashlib.sha256(body).digest() != self.hashes[name]:
            return self.fail(since, first, owner, "body", f"{name} is another one, of {len(body)} bytes")
        self.requests += 1
        owner = int(answer.headers["X-Server"][1:])
        if self.style == "session":
            self.at_home(owner, since)
            cookie = answer.headers["Set-Cookie"]
            self.cookie = cookie.split(";")[0] if cookie else self.cookie
        return owner

    def at_home(self, owner, since):
        """Whether the session's server has answered."""
        if self.home and self.cookie:
            home, before = self.home
            if owner not in (home, self.astray) and self.history.lived(home, before):
                # Where the next request goes tells whether the session has moved there.
                self.strayed.append(f"a session of s{home} was served by s{owner}")
                self.astray = owner
                return
        self.home, self.astray = (owner, since), None

    def fail(self, since, first, owner, kind, text):
        self.errors.append(Error(time.monotonic(), since, first, owner, kind, f"{text} ({type(text).__name__})"))
