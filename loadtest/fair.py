#!/usr/bin/env python3
"""Who floods, and who waits for it: a TCP echo client's round trips while others ask for as much as they can.

    cargo build --release
    python3 loadtest/fair.py                             every flood, by one client and by twenty
    python3 loadtest/fair.py 404 ranges --clients 1 --seconds 5 --rounds 3
    python3 loadtest/fair.py udp-overload                more datagrams than can be answered: where does each of them end?
    python3 loadtest/fair.py --against OTHER_BINARY      the same for another build, in turn with this one
    python3 loadtest/fair.py --write                     puts the table into loadtest/results.md (so does compare.py --all)

The server runs on the first processor, flood and echo client on the last; the echo client is ahead of the flood there
(SCHED_FIFO, to root only), so that it measures the server and not the flood. A flood's rate is that of its answers, per
second of the server's processor time.

Standard library only. Loopback only, as root in a network namespace of its own. Everything is bounded in time.
"""
import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import compare

FILES = 20_000            # more than the server keeps in memory here
CONF = """
[limits]
max_connections_per_address = 0
[[listener]]
kind = "tcp-echo"
bind = "127.0.0.1:0"
[[listener]]
kind = "udp-echo"
bind = "127.0.0.1:0"
[[listener]]
kind = "udp-ping"
bind = "127.0.0.1:0"
loss = 0.0
[[listener]]
kind = "hello"
bind = "127.0.0.1:0"
[[listener]]
kind = "http"
bind = "127.0.0.1:0"
root = "{dir}/site"
max_memory_bytes = "1MiB"
[[listener]]
kind = "proxy"
bind = "127.0.0.1:0"
[[listener]]
kind = "upload"
bind = "127.0.0.1:0"
handshake = "none"
dir = "{dir}/up"
overwrite = "replace"
[[listener]]
kind = "admin"
bind = "127.0.0.1:0"
"""


def get(path, more="", method="GET"):
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode()


def upload():
    header = b'{"filename": "a", "filesize": 0}'
    return len(header).to_bytes(4, "little") + header


RANGES = "Range: bytes=" + ",".join(f"{i * 1000}-{i * 1000 + 9}" for i in range(32)) + "\r\n"
# name -> (listener, way of flooding, what is sent, what it is). What is sent is answered once for each b"\r\n\r\n"; only in
# turns it is waited for.
FLOODS = {
    "file": ("http", "stream", get("/128") * 64, "a 128-byte file that is kept"),
    "file-1": ("http", "turns", get("/128"), "that file, the next request after the answer"),
    "file-16": ("http", "turns", get("/128") * 16, "that file, the next 16 requests after 16 answers"),
    "404": ("http", "stream", get("/none") * 64, "a name that is not there"),
    "head": ("http", "stream", get("/128", method="HEAD") * 64, "HEAD"),
    "files": ("http", "stream", b"".join(get(f"/many/{i}") for i in range(FILES)), f"{FILES:,} small files in turn"),
    "folder": ("http", "stream", get("/many/") * 64, "a folder without an index"),
    "ranges": ("http", "stream", get("/large", RANGES) * 16, "32 ranges of a file"),
    "refusal": ("proxy", "stream", get("http://10.0.0.1/") * 64, "a refusal of the proxy"),
    "livez": ("admin", "stream", get("/livez") * 64, "`/livez`"),
    "metrics": ("admin", "stream", get("/metrics") * 64, "`/metrics`"),
    "umlauts": ("tcp-echo", "stream", "\u00fc".encode() * 32768, "TCP echo of umlauts"),
    "uploads": ("upload", "stream", upload() * 64, "uploads of empty files"),
    "connections": ("http", "connect", get("/128", "Connection: close\r\n"), "a connection for each request"),
    "connects": ("hello", "connect", b"", "connections that are reset"),
    "datagrams": ("udp-echo", "datagram", b"x" * 64, "datagrams of 64 bytes"),
    "datagrams-umlauts": ("udp-echo", "datagram", "\u00fc".encode() * 16000, "datagrams of 32,000 bytes of umlauts"),
}
OVERLOADS = ((64, 20, 32), (60_000, 20, 1), (64, 20, 1))      # bytes of a datagram, sockets, datagrams in a message
BOUND_MS = 20                                    # what an echo client may have to wait for beside them, at its 99th percentile
BUILT = compare.BUILT
DEFAULTS = dict(floods=None, clients=[1, 20], rounds=3, seconds=2, against=None)


class Server:
    """A build that serves, from `with` to the end of its block."""

    def __init__(self, binary, site, options):
        self.binary, self.site, self.first = binary, site, options.first
        self.builds = [options.binary, options.against] if options.against else []

    def __enter__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="fair-"))
        (self.dir / "site").symlink_to(self.site)
        (self.dir / "conf").write_text(CONF.format(dir=self.dir))
        compare.known_to_all(self.dir / "conf", self.builds)
        self.process = subprocess.Popen(
            ["taskset", "-c", str(self.first), self.binary, "-qq", "--config", self.dir / "conf"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.ports = compare.ports_when_ready(self.process, self.binary)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def told(self, path):
        """A page of the admin listener."""
        with socket.create_connection(("127.0.0.1", self.ports["admin"]), 10) as admin:
            admin.sendall(get(path, "Connection: close\r\n"))
            return b"".join(iter(lambda: admin.recv(1 << 16), b"")).split(b"\r\n\r\n", 1)[1].decode()

    def counted(self, listener, key):
        """What the server counted; no answer of the flood tells it."""
        status = json.loads(self.told("/status.json"))
        return next(each[key] for each in status["listeners"] if each["kind"] == listener)

    def datagrams(self, listener, run):
        """What became of datagrams that came `run` in a message: (answered, dropped by the kernel, by the server)."""
        found = re.findall(r'^netlab_datagrams_(\w+)_total\{listener="%s"[^}]*\} (\d+)$' % listener, self.told("/metrics"), re.M)
        total = lambda name: sum(int(count) for each, count in found if each == name)
        return total("sent"), run * total("kernel_drops"), total("dropped")


def answer_bytes(port, message):
    """How long the answer to the first request is."""
    request = message[:message.index(b"\r\n\r\n") + 4]
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        return len(b"".join(iter(lambda: client.recv(1 << 16), b"")))


def measure(binary, name, clients, site, options):
    """One flood: the echo client's round trips, and answers a second."""
    listener, way, message, _ = FLOODS[name]
    last = ["taskset", "-c", str(options.last)]
    with Server(binary, site, options) as server:
        port, seconds = server.ports[listener], options.seconds
        counted = {"uploads": "files_stored", "datagrams": "datagrams_received", "datagrams-umlauts": "datagrams_received"}
        counted = counted.get(name)
        each = 1
        if way in ("stream", "turns") and counted is None:
            each = answer_bytes(port, message) if b"\r\n\r\n" in message else 65536
        waits = [str(each * message.count(b"\r\n\r\n"))] if way == "turns" else []
        before, cpu = server.counted(listener, counted) if counted else 0, compare.cpu_seconds(server.process.pid)
        flood = subprocess.Popen([*last, BUILT / "flood", way.replace("turns", "stream"), str(port), str(clients),
                                  str(seconds + 1), *waits], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        flood.stdin.write(message)
        flood.stdin.close()
        time.sleep(0.5)
        ping = subprocess.run([*last, BUILT / "flood", "ping", str(server.ports["tcp-echo"]), str(seconds)],
                              capture_output=True, timeout=seconds + 120)
        told = json.loads(flood.stdout.read())
        flood.wait(60)
        cpu = compare.cpu_seconds(server.process.pid) - cpu
        result = json.loads(ping.stdout)
        done = server.counted(listener, counted) - before if counted else told["received"] / each
        result["per_cpu"] = done / max(cpu, 1 / compare.TICKS)
        return result


def overload_once(binary, size, sockets, run, site, options):
    """More datagrams than can be answered: where each of them ended, and the echo client's round trips.

    What the sender made one message of the kernel drops as one, and counts as one.
    """
    last = ["taskset", "-c", str(options.last)]
    with Server(binary, site, options) as server:
        cpu = compare.cpu_seconds(server.process.pid)
        flood = subprocess.Popen([*last, BUILT / "flood", "overload", str(server.ports["udp-ping"]), str(sockets),
                                  str(options.seconds + 1), str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        flood.stdin.write(b"x" * size)
        flood.stdin.close()
        time.sleep(0.5)
        ping = subprocess.run([*last, BUILT / "flood", "ping", str(server.ports["tcp-echo"]), str(options.seconds)],
                              capture_output=True, timeout=options.seconds + 120)
        told = json.loads(flood.stdout.read())
        flood.wait(60)
        ends, until = server.datagrams("udp-ping", run), time.monotonic() + 5
        while sum(ends) != told["sent"] and time.monotonic() < until:
            time.sleep(0.1)                         # it answers what waits, and asks for the kernel's count from time to time
            ends = server.datagrams("udp-ping", run)
        cpu = compare.cpu_seconds(server.process.pid) - cpu
        return json.loads(ping.stdout) | told | dict(zip(("answered", "kernel", "limited"), ends)) | dict(
            per_cpu=ends[0] / max(cpu, 1 / compare.TICKS), lost=told["sent"] - sum(ends))


def overload(options):
    """The section of the datagrams that are too many."""
    site = prepare()
    head = ["bytes", "sockets", "in a message", "build", "sent/s", "answered", "dropped by the kernel", "limited", "unaccounted for",
            "answers per CPU second", "p50 ms", "p99 ms", "worst ms"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for size, sockets, run in OVERLOADS[:1] if options.seconds <= 1 else OVERLOADS:
        named = builds(options)
        rounds = [{build: overload_once(binary, size, sockets, run, site, options) for build, binary in named.items()}
                  for _ in range(options.rounds)]
        for build in named:
            of = [r[build] for r in rounds]
            total = lambda key: sum(r[key] for r in of)
            share = lambda key: f"{100 * total(key) / total('sent'):.1f} %"
            median = lambda key: statistics.median(r[key] for r in of)
            lines.append(f"| {size:,} | {sockets} | {run} | {build} | {total('sent') / total('seconds'):,.0f} | {share('answered')} | "
                         f"{share('kernel')} | {share('limited')} | {total('lost'):,} | {median('per_cpu'):,.0f} | "
                         f"{median('p50_us') / 1e3:.2f} | {median('p99_us') / 1e3:.2f} | {max(r['max_us'] for r in of) / 1e3:.2f} |")
            print("udp-overload", lines[-1], file=sys.stderr, flush=True)
            if build == "now" and total("lost"):
                options.wrong.append("udp-overload")
    yield "udp-overload", "\n".join([
        "## udp-overload", "",
        "A TCP echo client's round trips beside more datagrams than the UDP ping responder can answer, and where each of these "
        f"ended. The bound of the round trips is {BOUND_MS} ms at the 99th percentile.", "",
        *lines, "", f"{options.rounds} rounds of {options.seconds} s.", ""])


def builds(options):
    return {"now": options.binary} | ({"other": options.against} if options.against else {})


def prepare():
    """Makes the files to ask for and the floods; the folder of the files."""
    site = BUILT / "fair"
    (site / "many").mkdir(parents=True, exist_ok=True)
    (site / "128").write_bytes(b"x" * 128)
    (site / "large").write_bytes(b"x" * 65536)
    for i in range(FILES):
        path = site / "many" / str(i)
        if not path.exists():
            path.write_bytes(b"x" * 128)
    subprocess.run(["cc", "-O2", "-o", BUILT / "flood", compare.HERE / "flood.c"], check=True)
    return site


def fairness(options):
    """The section of the table."""
    site, named = prepare(), builds(options)
    names = list(named)
    head = ["flood", "clients"]
    for build in names:
        suffix = f" {build}" if len(names) > 1 else ""
        head += [f"p50 ms{suffix}", f"p99 ms{suffix}", f"answers per CPU second{suffix}"]
    head += ["answers, now ÷ other"] if len(names) > 1 else []
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name in options.floods or FLOODS:
        for clients in options.clients:
            rounds = [{build: measure(named[build], name, clients, site, options) for build in
                       (names if number % 2 else names[::-1])} for number in range(options.rounds)]
            median = lambda build, key: statistics.median(r[build][key] for r in rounds)
            row = [FLOODS[name][3], str(clients)]
            for build in names:
                row += [f"{median(build, 'p50_us') / 1e3:.2f}", f"{median(build, 'p99_us') / 1e3:.2f}", f"{median(build, 'per_cpu'):,.0f}"]
            if len(names) > 1:
                row.append(f"{statistics.median(r['now']['per_cpu'] / r['other']['per_cpu'] for r in rounds):.2f}")
            lines.append(f"| {' | '.join(row)} |")
            print(name, lines[-1], file=sys.stderr, flush=True)
    yield "fairness", "\n".join([
        "## fairness", "",
        "A TCP echo client's round trips beside clients that flood, one or twenty of them, and the flood's answers.", "",
        *lines, "", f"{options.rounds} rounds of {options.seconds} s.", ""])


def sections(options):
    """Both sections, or that of the floods that are named."""
    floods = [name for name in options.floods or () if name != "udp-overload"]
    if floods or not options.floods:
        yield from fairness(argparse.Namespace(**vars(options) | dict(floods=floods)))
    if not options.floods or "udp-overload" in options.floods:
        yield from overload(options)


def go_ahead():
    """Puts this run before everything else on the machine, where that is permitted (to root).

    Linux weighs sessions before it weighs processes, so a session of our own has to be weighed too (man 7 sched).
    """
    try:
        if os.getpid() != os.getpgrp():
            os.setsid()
        os.nice(-20)
        Path("/proc/self/autogroup").write_text("-20")
    except OSError as error:
        print(f"others may disturb this: {error}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("floods", nargs="*", metavar="FLOOD", help=f"default: all of {', '.join(FLOODS)}, udp-overload")
    parser.add_argument("--clients", type=lambda text: [int(n) for n in text.split(",")], default=DEFAULTS["clients"], help="with commas")
    parser.add_argument("--rounds", type=int, default=DEFAULTS["rounds"])
    parser.add_argument("--seconds", type=float, default=DEFAULTS["seconds"], help="of one measurement")
    parser.add_argument("--binary", default=str(compare.TARGET / "release" / compare.OURS))
    parser.add_argument("--against", metavar="BINARY", help="another build to measure in turn with it")
    parser.add_argument("--write", action="store_true", help="put the table into results.md")
    options = parser.parse_args()
    if wrong := set(options.floods) - {*FLOODS, "udp-overload"}:
        parser.error(f"no such flood: {', '.join(sorted(wrong))}")
    processors = sorted(os.sched_getaffinity(0))
    options.first, options.last = processors[0], processors[-1]
    options.network = compare.own_network()
    options.wrong = []
    go_ahead()
    for name, text in sections(options):
        print(text)
        if options.write:
            compare.write(name, text, options)
    if options.wrong:
        sys.exit("datagrams are not accounted for")


if __name__ == "__main__":
    main()
