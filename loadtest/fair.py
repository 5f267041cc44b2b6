#!/usr/bin/env python3
"""Who floods, and who waits for it: a TCP echo client's round trips while others ask for as much as they can.

    cargo build --release
    python3 loadtest/fair.py                             every flood, by one client and by twenty
    python3 loadtest/fair.py 404 ranges --clients 1 --seconds 5 --rounds 3
    python3 loadtest/fair.py --before OTHER_BINARY       the same for another build, in turn with this one
    python3 loadtest/fair.py --write                     puts the table into loadtest/results.md (so does compare.py --all)

The server runs on the first processor, flood and echo client on the last; the echo client is ahead of the flood there
(SCHED_FIFO, to root only), so that it measures the server and not the flood. A flood's rate is that of its answers, per
second of the server's processor time.

Standard library only. Loopback only, as root in a network namespace of its own. Everything is bounded in time.
"""
import argparse
import json
import os
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
# name -> (listener, way of flooding, what is sent, what it is). What is sent is answered once for each b"\r\n\r\n".
FLOODS = {
    "file": ("http", "stream", get("/128") * 64, "a 128-byte file that is kept"),
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
BUILT = compare.BUILT
DEFAULTS = dict(floods=None, clients=[1, 20], rounds=3, seconds=2, before=None)


class Server:
    """A build that serves, from `with` to the end of its block."""

    def __init__(self, binary, site, first):
        self.binary, self.site, self.first = binary, site, first

    def __enter__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="fair-"))
        (self.dir / "site").symlink_to(self.site)
        (self.dir / "conf").write_text(CONF.format(dir=self.dir))
        self.process = subprocess.Popen(
            ["taskset", "-c", str(self.first), self.binary, "-qq", "--config", self.dir / "conf"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.ports = {}
        for line in self.process.stdout:
            words = line.split()
            if words == ["ready"]:
                return self
            self.ports[words[1]] = int(words[2].rsplit(":", 1)[1])
        raise RuntimeError(f"{self.binary} does not start")

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def counted(self, listener, key):
        """What the server counted; no answer of the flood tells it."""
        with socket.create_connection(("127.0.0.1", self.ports["admin"]), 10) as admin:
            admin.sendall(get("/status.json", "Connection: close\r\n"))
            answer = b"".join(iter(lambda: admin.recv(1 << 16), b""))
        status = json.loads(answer.split(b"\r\n\r\n", 1)[1])
        return next(each[key] for each in status["listeners"] if each["kind"] == listener)


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
    with Server(binary, site, options.first) as server:
        port, seconds = server.ports[listener], options.seconds
        counted = {"uploads": "files_stored", "datagrams": "datagrams_received", "datagrams-umlauts": "datagrams_received"}
        counted = counted.get(name)
        each = 1
        if way == "stream" and counted is None:
            each = answer_bytes(port, message) if b"\r\n\r\n" in message else 65536
        before, cpu = server.counted(listener, counted) if counted else 0, compare.cpu_seconds(server.process.pid)
        flood = subprocess.Popen([*last, BUILT / "flood", way, str(port), str(clients), str(seconds + 1)],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
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


def fairness(options):
    """The section of the table."""
    site = BUILT / "fair"
    (site / "many").mkdir(parents=True, exist_ok=True)
    (site / "128").write_bytes(b"x" * 128)
    (site / "large").write_bytes(b"x" * 65536)
    for i in range(FILES):
        path = site / "many" / str(i)
        if not path.exists():
            path.write_bytes(b"x" * 128)
    subprocess.run(["cc", "-O2", "-o", BUILT / "flood", compare.HERE / "flood.c"], check=True)
    builds = {"now": options.binary} | ({"before": options.before} if options.before else {})
    names = list(builds)
    head = ["flood", "clients"]
    for build in names:
        suffix = f" {build}" if len(names) > 1 else ""
        head += [f"p50 ms{suffix}", f"p99 ms{suffix}", f"answers per CPU second{suffix}"]
    head += ["answers, now ÷ before"] if len(names) > 1 else []
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name in options.floods or FLOODS:
        for clients in options.clients:
            rounds = [{build: measure(builds[build], name, clients, site, options) for build in
                       (names if number % 2 else names[::-1])} for number in range(options.rounds)]
            median = lambda build, key: statistics.median(r[build][key] for r in rounds)
            row = [FLOODS[name][3], str(clients)]
            for build in names:
                row += [f"{median(build, 'p50_us') / 1e3:.2f}", f"{median(build, 'p99_us') / 1e3:.2f}", f"{median(build, 'per_cpu'):,.0f}"]
            if len(names) > 1:
                row.append(f"{statistics.median(r['now']['per_cpu'] / r['before']['per_cpu'] for r in rounds):.2f}")
            lines.append(f"| {' | '.join(row)} |")
            print(name, lines[-1], file=sys.stderr, flush=True)
    yield "fairness", "\n".join([
        "## fairness", "",
        "A TCP echo client's round trips beside clients that flood, one or twenty of them, and the flood's answers.", "",
        *lines, "", f"{options.rounds} rounds of {options.seconds} s.", ""])


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
    parser.add_argument("floods", nargs="*", metavar="FLOOD", help=f"default: all of {', '.join(FLOODS)}")
    parser.add_argument("--clients", type=lambda text: [int(n) for n in text.split(",")], default=DEFAULTS["clients"], help="with commas")
    parser.add_argument("--rounds", type=int, default=DEFAULTS["rounds"])
    parser.add_argument("--seconds", type=float, default=DEFAULTS["seconds"], help="of one measurement")
    parser.add_argument("--binary", default=str(compare.TARGET / "release" / compare.OURS))
    parser.add_argument("--before", help="another build to measure in turn with it")
    parser.add_argument("--write", action="store_true", help="put the table into results.md")
    options = parser.parse_args()
    if wrong := set(options.floods) - set(FLOODS):
        parser.error(f"no such flood: {', '.join(sorted(wrong))}")
    processors = sorted(os.sched_getaffinity(0))
    options.first, options.last = processors[0], processors[-1]
    options.network = compare.own_network()
    go_ahead()
    for name, text in fairness(options):
        print(text)
        if options.write:
            compare.write(name, text, options)


if __name__ == "__main__":
    main()
