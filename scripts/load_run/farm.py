"""The farm's servers: a device and an application in a namespace each."""

import ctypes
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

PREFIX = os.environ.get("LOAD_PREFIX", "")
DIR = os.environ.get("LOAD_DIR", "")
INIC = os.environ.get("LOAD_INIC", "")

_libc = ctypes.CDLL(None, use_errno=True)


def socket_in(space):
    """A TCP socket of the namespace `space`. It stays there, this thread does not."""
    with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{PREFIX}-{space}") as there:
        _enter(there)
        try:
            return socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        finally:
            _enter(home)


def _enter(namespace):
    if _libc.setns(namespace.fileno(), 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Connection(http.client.HTTPConnection):
    """An HTTP connection from a namespace."""

    def __init__(self, space, host, port=80, timeout=15):
        super().__init__(host, port, timeout=timeout)
        self.space = space

    def connect(self):
        self.sock = socket_in(self.space)
        self.sock.settimeout(self.timeout)
        self.sock.connect((self.host, self.port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def start(space, *command, log):
    """A program in a namespace, the head of a process group of its own."""
    with open(f"{DIR}/{log}", "ab") as output:
        return subprocess.Popen(
            ["ip", "netns", "exec", f"{PREFIX}-{space}", *command],
            stdout=output, stderr=output, start_new_session=True,
        )


class Server:
    """Server sN."""

    def __init__(self, number, backend):
        self.number, self.name, self.address = number, f"s{number}", f"10.77.0.1{number}"
        self.backend = backend
        # Bounds that a short run reaches too, and forward records that end soon where a client is gone.
        self.limits = {"forward_idle_ms": 20000}
        self.balance, self.maps = {"policy": "inverse-connections"}, []
        self.device = self.app = None
        # A sampling thread looks while devices come and go.
        self.lock = threading.Lock()

    # ---- the device ----

    def write_config(self):
        pairs = lambda table: "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
        maps = "".join(f"[[url_map]]\npath = {json.dumps(path)}\nservers = {json.dumps(servers)}\n" for path, servers in self.maps)
        n = self.number
        with open(f"{DIR}/{self.name}.toml", "w") as file:
            file.write(f"""name = "s{n}"
backend = "{self.backend}"
[port_a]
interface = "a0"
addresses = ["10.77.0.1{n}"]
prefix = 24
[port_b]
interface = "b0"
address = "10.88.0.1{n}"
[synch]
interface = "c0"
address = "10.99.0.1{n}"
[[listen]]
address = "10.77.0.1{n}:80"
app = "127.0.0.1:8080"
service = "web"
[session]
cookie = "IPOSSESSION"
lifetime_s = 10
[admin]
listen = "127.0.0.1:9180"
[limits]
{pairs(self.limits)}[balance]
{pairs(self.balance)}{maps}""")

    def start_device(self):
        self.device = start(self.name, INIC, "--config", f"{DIR}/{self.name}.toml", log=f"{self.name}.log")

    def wait_up(self, servers, patience=20):
        """Until the device answers, and knows so many servers."""
        limit = time.monotonic() + patience
        while time.monotonic() < limit:
            try:
                if self.get("/healthz")["servers_alive"] >= servers:
                    return
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.05)
        raise RuntimeError(f"{self.name}: its device is not up after {patience} s")

    def kill_device(self):
        self.device.kill()
        self.device.wait()

    def stop_device(self):
        """Asks it to end; its exit status."""
        self.device.terminate()
        try:
            return self.device.wait(10)
        except subprocess.TimeoutExpired:
            self.kill_device()
            return "none after 10 s"

    def log(self):
        with open(f"{DIR}/{self.name}.log", errors="replace") as file:
            return re.sub("\x1b\\[[0-9;]*m", "", file.read())

    # ---- the application ----

    def start_app(self):
        name = self.name
        with open(f"{DIR}/{name}.conf", "w") as file:
            file.write(f"""pid {DIR}/{name}.pid; error_log {DIR}/{name}.error.log; worker_processes 1; daemon off; user root;
events {{ worker_connections 8192; }}
http {{ access_log off; sendfile on; keepalive_requests 1000000; keepalive_timeout 60s;
  client_body_temp_path {DIR}/{name}.body; proxy_temp_path {DIR}/{name}.proxy; fastcgi_temp_path {DIR}/{name}.fcgi;
  uwsgi_temp_path {DIR}/{name}.uwsgi; scgi_temp_path {DIR}/{name}.scgi;
  server {{ listen 127.0.0.1:8080 backlog=4096; root {DIR}/files; add_header X-Server {name}; }} }}
""")
        self.app = start(name, "nginx", "-c", f"{DIR}/{name}.conf", log=f"{name}.nginx.log")

    def kill_app(self):
        # Its worker last, alone: else one dies after the other, and a connection that is made again between them is reset twice.
        self.app.kill()
        self.app.wait()
        os.killpg(self.app.pid, signal.SIGKILL)
        # It is dead when it has had its turn.
        limit = time.monotonic() + 5
        while self.app_listens() and time.monotonic() < limit:
            time.sleep(0.005)

    def app_listens(self):
        with socket_in(self.name) as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", 8080)) == 0

    def wait_app(self, patience=10):
        limit = time.monotonic() + patience
        while time.monotonic() < limit:
            try:
                if self.get("/healthz")["applications"][0]["answers"]:
                    return
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.05)
        raise RuntimeError(f"{self.name}: its application does not answer after {patience} s")

    # ---- the admin address ----

    def ask(self, method, path, body=None):
        """Status and text."""
        connection = Connection(self.name, "127.0.0.1", 9180, timeout=5)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def get(self, path):
        return json.loads(self.ask("GET", path)[1])

    def rows(self, name):
        """Of a table, a thousand rows at most."""
        tables = self.get(f"/tables?table={name}&rows=1000")["tables"]
        return next(table["rows"] for table in tables if table["name"] == name)

    def post(self, path, body=None):
        status, text = self.ask("POST", path, json.dumps(body) if body else "")
        return status, json.loads(text)

    def metrics(self):
        """Figures by their names and labels."""
        status, text = self.ask("GET", "/metrics")
        if status != 200:
            raise http.client.HTTPException(text)
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines if name}

    def process(self):
        """Resident memory in kB, and open descriptors."""
        with open(f"/proc/{self.device.pid}/status") as file:
            rss = int(re.search(r"VmRSS:\s+(\d+)", file.read())[1])
        return rss, len(os.listdir(f"/proc/{self.device.pid}/fd"))

    def end(self):
        for process in (self.device, self.app):
            if process and process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
