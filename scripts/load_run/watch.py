"""Samples of the devices: memory, descriptors, tables, drops."""

import http.client
import re
import threading
import time

# Empty on every server once all clients have ended: at once, and once TIME-WAIT, tombstones and sessions are over.
AT_ONCE = ["temporary", "early-packets", "outbox"]
LATER = ["local", "forward-connect", "forward", "tombstones", "cookie-map"]
# Figures that are 0 then.
ZERO = ["ipos_kept_bytes", "ipos_buffered_bytes", "ipos_bridges", "ipos_connections"]


def records(metrics, table):
    return int(metrics[f'ipos_table_records{{table="{table}"}}'])


class Watch(threading.Thread):
    """Looks every 5 s."""

    def __init__(self, servers):
        super().__init__(daemon=True)
        self.servers, self.began = servers, time.monotonic()
        self.stopping, self.looking = threading.Event(), threading.Lock()
        self.rss = {server.name: [] for server in servers}
        self.peaks = {server.name: {} for server in servers}
        # Counters of lives that are over, and the last ones seen.
        self.past = {server.name: {} for server in servers}
        self.last = {server.name: {} for server in servers}

    def run(self):
        while not self.stopping.wait(5):
            self.look()

    def look(self):
        with self.looking:
            for server in self.servers:
                try:
                    metrics = server.metrics()
                    rss, descriptors = server.process()
                except (OSError, http.client.HTTPException, TypeError, KeyError):
                    # Its device is away just now.
                    continue
                self.take(server.name, metrics, rss, descriptors)

    def take(self, name, metrics, rss, descriptors):
        self.rss[name].append((time.monotonic() - self.began, rss))
        peaks = self.peaks[name]
        tables = {re.search('"(.*)"', key)[1]: int(size) for key, size in metrics.items() if key.startswith("ipos_table_records")}
        for table, size in (tables | {"descriptors": descriptors}).items():
            peaks[table] = max(peaks.get(table, 0), size)
        counters = {key: value for key, value in metrics.items() if "_total" in key and "server_" not in key}
        if counters.get("ipos_frames_total", 0) < self.last[name].get("ipos_frames_total", 0):
            for key, value in self.last[name].items():
                self.past[name][key] = self.past[name].get(key, 0) + value
        self.last[name] = counters

    def counters(self, name):
        """All that was counted in all lives, as far as it was seen."""
        past, last = self.past[name], self.last[name]
        return {key: int(past.get(key, 0) + last.get(key, 0)) for key in past.keys() | last.keys()}

    def drops(self, name):
        found = ((re.search('reason="(.*)"', key), value) for key, value in self.counters(name).items() if "dropped_frames_total{" in key and "port_" not in key)
        return {reason[1]: value for reason, value in found if reason and value}

    def memory(self, seconds):
        """Peaks of resident memory in the thirds of the run, in kB."""
        thirds = {}
        for name, samples in self.rss.items():
            peaks = [max((rss for at, rss in samples if third <= at * 3 / seconds < third + 1), default=0) for third in range(3)]
            thirds[name] = peaks
        return thirds


def left(server, later):
    """What is not empty, of what is empty `later` too, or of what is at once."""
    metrics = server.metrics()
    full = {table: records(metrics, table) for table in AT_ONCE + (LATER if later else [])}
    full |= {name: int(metrics[name]) for name in ZERO}
    return {name: size for name, size in full.items() if size}
