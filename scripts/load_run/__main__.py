"""The load run of scripts/load, which makes its namespaces."""

import argparse
import http.client
import json
import random
import re
import signal
import sys
import time
from collections import Counter

from clients import JOBS, Checker, Wrk, make_files
from disturb import Disturber
from farm import Server
from history import RULES, History
from watch import Watch, left

# TIME-WAIT, then tombstones and sessions: 60 s each, and a margin; without them.
IDLE = {False: 150, True: 30}
STYLES = ["keep"] * 6 + ["close"] * 2 + ["session"] * 2


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/load", description="A farm under load that is disturbed all the time.",
        epilog=RULES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="MINUTES|pnet|xdp", help="how long (3), and the backend (pnet)")
    parser.add_argument("--seed", type=int, default=1, help="of the order of disturbances and of what is asked for (1)")
    parser.add_argument("--interval", type=float, default=20, help="seconds between two disturbances (20)")
    parser.add_argument("--only", help="these kinds of disturbances, with commas between them")
    parser.add_argument("--short", action="store_true", help="do not wait for the end of what keeps for 60 s: TIME-WAIT, tombstones, sessions")
    parser.add_argument("--json", action="store_true", help="one object on standard output instead of tables")
    given = parser.parse_args()
    given.minutes, given.backend = 3.0, "pnet"
    for word in given.words:
        if word in ("pnet", "xdp"):
            given.backend = word
            continue
        try:
            given.minutes = float(word)
        except ValueError:
            parser.error(f"`{word}` is neither a number of minutes nor pnet or xdp")
    if given.interval < 8 or given.minutes * 60 < given.interval:
        parser.error("an interval has 8 seconds at least, and the run one interval")
    return given


class Run:
    def __init__(self, given):
        self.given, self.broken_rules = given, []
        self.servers = [Server(number, given.backend) for number in (1, 2, 3)]
        self.history, self.wrks, self.checkers = History(), [], []
        self.began = time.monotonic()
        self.watch = Watch(self.servers)
        self.disturber = Disturber(self.servers, self.history, random.Random(given.seed), self.tell, self.broken, self.watch.look)
        if given.only:
            chosen, kinds = given.only.split(","), self.disturber.kinds()
            if unknown := set(chosen) - kinds.keys():
                raise SystemExit(f"scripts/load: --only: no such disturbance: {', '.join(sorted(unknown))}")
            self.disturber.kinds = lambda: {kind: kinds[kind] for kind in chosen}
            self.disturber.done = {kind: 0 for kind in chosen}

    def tell(self, text):
        print(f"{time.monotonic() - self.began:7.1f} s  {text}", file=sys.stderr, flush=True)

    def broken(self, text):
        self.broken_rules.append(text)
        self.tell(f"BROKEN: {text}")

    def start(self):
        hashes = make_files(self.given.seed)
        for server in self.servers:
            server.write_config()
            server.start_app()
        time.sleep(0.5)
        for server in self.servers:
            server.start_device()
        for server in self.servers:
            server.wait_up(3)
        self.before = {server.name: server.process()[1] for server in self.servers}
        self.checkers = [Checker(style, self.given.seed * 100 + at, hashes, self.history) for at, style in enumerate(STYLES)]
        self.began = self.watch.began = time.monotonic()
        for thread in [*self.checkers, self.watch]:
            thread.start()

    def interval(self, number):
        begin, seconds = time.monotonic(), self.given.interval
        wrks = [Wrk(job, (number + at) % 3 + 1, int(seconds - 2)) for at, job in enumerate(JOBS)]
        time.sleep(seconds / 4)
        self.disturber.next()
        for wrk in wrks:
            result = wrk.result(seconds + 30)
            self.wrks.append(result)
            errors = {kind: result[kind] for kind in ("connect", "read", "write", "timeout", "status") if result[kind]}
            if errors and not self.history.allows(result, begin):
                self.broken(f"wrk, {result['job']}, to s{result['first']}: {errors}")
        for server in self.servers:
            if server.device.poll() is not None:
                self.broken(f"{server.name}: its device has ended by itself: {server.device.returncode}")
                server.start_device()
        time.sleep(max(0, begin + seconds - time.monotonic()))

    def settle(self):
        """All clients end; then everything becomes empty."""
        for checker in self.checkers:
            checker.stopping.set()
        for checker in self.checkers:
            checker.join(30)
        self.watch.stopping.set()
        self.watch.join()
        self.seconds = time.monotonic() - self.began
        self.tell("all clients have ended")
        begin, idle = time.monotonic(), IDLE[self.given.short]
        look = lambda: {server.name: left(server, not self.given.short) for server in self.servers}
        full = look()
        while any(full.values()) and time.monotonic() < begin + idle:
            time.sleep(2)
            full = look()
        self.emptied = time.monotonic() - begin
        for server in self.servers:
            if rest := full[server.name]:
                self.broken(f"{server.name}: not empty {idle} s after the last client: {rest}")
                for table in ("temporary", "local", "forward-connect", "forward"):
                    for row in server.rows(table)[:4]:
                        self.tell(f"  {server.name}, {table}: {json.dumps(row)}")
            descriptors = server.process()[1]
            if descriptors > self.before[server.name] + 2:
                self.broken(f"{server.name}: {descriptors} descriptors are open, {self.before[server.name]} were")
        self.watch.look()

    def judge(self):
        for name, (_, middle, last) in self.watch.memory(self.seconds).items():
            if self.seconds >= 360 and last > middle * 1.1 + 8192:
                self.broken(f"{name}: memory is not flat: {last} kB in the last third, {middle} kB in the middle one")
        for checker in self.checkers:
            for error in checker.errors:
                excuse = self.history.excuse(error)
                if not excuse:
                    at = error.at - self.began
                    waited = error.at - error.since
                    self.broken(
                        f"{checker.style}: {error.text}, {error.kind}, at {at:.2f} s after {waited:.2f} s; "
                        f"first server s{error.first}, last answer from s{error.owner}"
                    )
        strayed = [text for checker in self.checkers for text in checker.strayed]
        requests = sum(checker.requests for checker in self.checkers if checker.style == "session")
        allowed = min(self.missed(), requests // 100)
        if self.given.short:
            # A busy machine leaves servers silent for a moment, or tells them late of a session, and there are few in a short run.
            allowed = self.missed() + requests // 10
        if len(strayed) > allowed:
            self.broken(f"{len(strayed)} of {requests} requests of sessions went elsewhere, and {self.missed()} had no server to ask: {strayed[:5]}")
        for server in self.servers:
            for line in re.findall(r".*(?:ERROR|panicked).*", server.log()):
                self.broken(f"{server.name}: its log says: {line.strip()}")

    def missed(self):
        """Hand-overs that were refused or not answered in time, and requests whose server could not be asked."""
        counters = [self.watch.counters(server.name) for server in self.servers]
        return sum(of.get(f"ipos_{name}_total", 0) for of in counters for name in ("refused", "unanswered", "unavailable"))

    def report(self):
        errors = Counter()
        for checker in self.checkers:
            for error in checker.errors:
                excuse = self.history.excuse(error)
                errors[excuse.kind if excuse else "not allowed"] += 1
        jobs = []
        for name, *_ in JOBS:
            of_job = [result for result in self.wrks if result["job"] == name]
            kinds = ("requests", "connect", "read", "write", "timeout", "status")
            jobs.append({"job": name} | {kind: sum(result[kind] for result in of_job) for kind in kinds})
        memory, servers = self.watch.memory(self.seconds), []
        for server in self.servers:
            counters = self.watch.counters(server.name)
            servers.append({
                "name": server.name, "rss_kb": memory[server.name], "peaks": self.watch.peaks[server.name],
                "migrated_out": counters.get("ipos_migrated_out_total", 0), "migrated_in": counters.get("ipos_migrated_in_total", 0),
                "drops": self.watch.drops(server.name),
            })
        return {
            "seconds": round(self.seconds), "backend": self.given.backend, "seed": self.given.seed,
            "disturbances": self.disturber.done, "moves_asked_for": self.disturber.moved, "wrk": jobs,
            "checked_requests": sum(checker.requests for checker in self.checkers),
            "checked_errors": dict(errors), "sessions_elsewhere": sum(len(checker.strayed) for checker in self.checkers),
            "without_server_to_ask": self.missed(), "emptied_after_s": round(self.emptied), "servers": servers, "broken": self.broken_rules,
        }


def table(report):
    print(f"\n{report['seconds']} s of load, {report['backend']}, seed {report['seed']}: "
          + ", ".join(f"{count} {kind}" for kind, count in report["disturbances"].items()))
    print(f"\n{'wrk':<22}{'requests':>10}{'connect':>9}{'read':>7}{'write':>7}{'timeout':>9}{'status':>8}")
    for job in report["wrk"]:
        print(f"{job['job']:<22}{job['requests']:>10}{job['connect']:>9}{job['read']:>7}{job['write']:>7}{job['timeout']:>9}{job['status']:>8}")
    errors = ", ".join(f"{count} by {kind}" for kind, count in report["checked_errors"].items()) or "none"
    print(f"{'checked':<22}{report['checked_requests']:>10}  errors: {errors}; "
          f"{report['sessions_elsewhere']} requests of sessions elsewhere, {report['without_server_to_ask']} had no server to ask")
    print(f"\n{'server':<8}{'RSS MB, thirds':>20}{'out':>9}{'in':>9}{'descriptors':>13}   most records at once")
    for server in report["servers"]:
        rss = " ".join(f"{peak / 1024:.1f}" for peak in server["rss_kb"])
        peaks = dict(server["peaks"])
        descriptors = peaks.pop("descriptors", 0)
        most = ", ".join(f"{name} {size}" for name, size in peaks.items() if size)
        print(f"{server['name']:<8}{rss:>20}{server['migrated_out']:>9}{server['migrated_in']:>9}{descriptors:>13}   {most}")
    for server in report["servers"]:
        print(f"{server['name']} dropped: " + (", ".join(f"{name} {count}" for name, count in sorted(server["drops"].items())) or "nothing"))
    print(f"\nempty {report['emptied_after_s']} s after the last client; {len(report['broken'])} rules broken")
    for text in report["broken"]:
        print(f"  {text}")


def main():
    given = arguments()
    # Whoever ends this run gets it cleaned up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    run = Run(given)
    try:
        run.start()
        for number in range(int(given.minutes * 60 / given.interval)):
            run.interval(number)
        run.settle()
        run.judge()
        report = run.report()
    except (RuntimeError, OSError, http.client.HTTPException) as error:
        for server in run.servers:
            for line in server.log().splitlines()[-5:]:
                print(f"{server.name}: {line}", file=sys.stderr)
        print(f"scripts/load: {error}", file=sys.stderr)
        return 1
    finally:
        for server in run.servers:
            server.end()
    if given.json:
        print(json.dumps(report))
    else:
        table(report)
    return 1 if report["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
