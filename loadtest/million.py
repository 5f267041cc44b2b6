#!/usr/bin/env python3
"""A cache that holds a million objects: the memory of its index, and how long a start takes.

    cargo build --release
    python3 loadtest/million.py                          1,000,000 objects of 1 KiB: 3 minutes, 8 GB and a million inodes
    python3 loadtest/million.py --objects 100000
    python3 loadtest/million.py --cold                   the kernel forgets all files before one more start (root only)
    python3 loadtest/million.py --write                  puts the table into loadtest/results.md

A gateway before origin.c is asked for each object once. When all of them are on the disk it is ended and started again over
the same folder: once after SIGTERM, once after SIGKILL. Beside each start a client asks for objects by chance, on 4 connections
and with pauses, from the first moment on; at the end each object is asked for once more. Whatever is no hit then is lost.

Server on the first processor, client and origin on the last. Standard library only. Loopback only, as root in a network
namespace of its own. Everything is bounded in time. The files are removed in the background, which takes minutes.
"""
import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import compare
import fair

BUILT = compare.BUILT
CONF = """[limits]
max_pool_bytes = "1MiB"
[[listener]]
kind = "proxy"
bind = "127.0.0.1:0"
upstream = "http://127.0.0.1:{origin}"
cache_dir = "{cache}"
cache_max_bytes = "1TiB"
cache_max_objects = {room}
cache_max_memory_bytes = "{memory}"
[[listener]]
kind = "admin"
bind = "127.0.0.1:0"
"""
BYTES_OF_FILE = 8192          # of the disk, at most, for an object of 1 KiB and its header
PASSES = 8                    # in which all objects are asked for, until all are there
STARTS_WITHIN = 120           # seconds, until all objects are known
CLIENT = (4, 1, 500)          # who asks beside a start: connections, seconds, pause in µs
MEMORY_BOUND, TIME_BOUND = 200 << 20, 60      # bytes of the index of a million objects, seconds until all of them are known


class Server:
    """The gateway over its folder, from `with` to the end of the block; `signal` says how it ends."""

    def __init__(self, options, cache, ends=signal.SIGTERM, memory="1MiB"):
        self.options, self.cache, self.ends, self.memory = options, cache, ends, memory

    def __enter__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="million-"))
        conf = CONF.format(cache=self.cache, room=2 * self.options.objects, memory=self.memory, **compare.origin(self.options))
        (self.dir / "conf").write_text(conf)
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            ["taskset", "-c", str(self.options.first), self.options.binary, "-qq", "--config", self.dir / "conf"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.ports = compare.ports_when_ready(self.process, self.options.binary)
        return self

    def __exit__(self, *_):
        self.process.send_signal(self.ends)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def counts(self):
        """What it counts of its cache: {(name, place): number}."""
        with socket.create_connection(("127.0.0.1", self.ports["admin"]), 30) as admin:
            admin.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            text = b"".join(iter(lambda: admin.recv(1 << 16), b"")).decode()
        found = re.findall(r'^netlab_(cache_\w+|disk_jobs_\w+?)(?:\{place="(\w+)"\})? (\d+)$', text, re.M)
        return {(name, place): int(count) for name, place, count in found}

    def objects(self):
        return self.counts()[("cache_objects", "disk")]

    def resident(self):
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"^RssAnon:\s+(\d+)", text, re.M)[1]) * 1024

    def asked(self, connections, *more, within):
        """What objects.c tells of its requests."""
        argv = ["taskset", "-c", str(self.options.last), BUILT / "objects", self.ports["proxy"], connections, self.options.objects,
                *more]
        return subprocess.Popen(list(map(str, argv)), stdout=subprocess.PIPE, text=True), time.monotonic() + within


def told(asked):
    """What the client told at its end."""
    process, until = asked
    try:
        text, _ = process.communicate(timeout=max(until - time.monotonic(), 1))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise RuntimeError("the client of the objects does not end") from None
    if process.returncode:
        raise RuntimeError("the client of the objects failed")
    return json.loads(text)


def wait_for(server, count, within):
    """Returns when so many objects are known: the seconds since the server was started."""
    seen = server.objects()
    while seen < count:
        if time.monotonic() > server.began + within:
            raise RuntimeError(f"{seen:,} of {count:,} objects are known after {within} s: {server.counts()}")
        time.sleep(0.02)
        seen = server.objects()
    return time.monotonic() - server.began


def settle(server, count):
    """Returns when all objects are on the disk, or when no more come there: how many there are."""
    seen, since = server.counts(), time.monotonic()
    while seen[("cache_objects", "disk")] < count and time.monotonic() < since + 2:
        time.sleep(0.1)
        now = server.counts()
        if now[("disk_jobs_waiting", "")] + now[("disk_jobs_under_way", "")] or now != seen:
            seen, since = now, time.monotonic()
    return seen[("cache_objects", "disk")]


def fill(options, cache):
    """Fetches objects until all are on the disk: objects a second, how often all were asked for; the memory of nothing.

    An object that waits for the disk takes memory. If that is spent, the server lets it go: then it is asked for again.
    """
    with Server(options, cache, memory="256MiB") as server:
        empty = server.resident()
        for passes in range(1, PASSES + 1):
            result = told(server.asked(64, within=options.objects / 500 + 60))
            if result["errors"]:
                raise RuntimeError(f"answers were wrong: {result}")
            there = settle(server, options.objects)
            print(f"pass {passes}: {json.dumps(result)}, {there:,} are there", file=sys.stderr, flush=True)
            if there == options.objects:
                break
        counts, seconds = server.counts(), time.monotonic() - server.began
        if there < options.objects or counts[("cache_failed_total", "")]:
            raise RuntimeError(f"{there:,} of {options.objects:,} objects could be stored: {counts}")
    return dict(rate=options.objects / seconds, passes=passes, let_go=counts[("cache_evicted_total", "")]), empty


def started(options, cache, ends, count, asks_for_all=False):
    """One start over a full folder, which ends by the signal `ends`."""
    with Server(options, cache, ends) as server:
        ready = time.monotonic() - server.began
        beside = server.asked(*CLIENT, within=60)
        with socket.create_connection(("127.0.0.1", server.ports["proxy"]), 30) as first:
            first.sendall(b"GET /kept/1024?7 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            first.recv(1 << 16)
        result = dict(ready=ready, first=time.monotonic() - server.began)
        result["all"] = wait_for(server, count, STARTS_WITHIN)
        result |= told(beside)
        result["resident"], result["index"] = server.resident(), server.counts()[("cache_index_bytes", "")]
        if asks_for_all:
            every = told(server.asked(64, within=options.objects / 500 + 60))
            result["lost"], result["rate"] = every["answers"] - every["hits"] + every["errors"], every["answers"] / every["seconds"]
    return result


def forget_all():
    """Has the kernel write what is dirty and forget what it knows of files."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def million(options):
    """The section of the table."""
    for program in ("origin", "objects"):
        subprocess.run(["cc", "-O2", "-o", BUILT / program, compare.HERE / f"{program}.c"], check=True)
    options.folder.mkdir(parents=True, exist_ok=True)
    compare.on_disk(options.folder)
    room = os.statvfs(options.folder)
    if room.f_bavail * room.f_frsize < options.objects * BYTES_OF_FILE or room.f_favail < options.objects + 1000:
        sys.exit(f"{options.folder} has {room.f_bavail * room.f_frsize:,} bytes and {room.f_favail:,} inodes free: too few")
    place = Path(tempfile.mkdtemp(prefix="million-", dir=options.folder))
    try:
        yield from tables(options, place / "cache")
    finally:
        print(f"{place} is removed in the background", file=sys.stderr)
        subprocess.Popen(["nice", "-n", "19", "rm", "-rf", place], start_new_session=True, stdin=subprocess.DEVNULL)


def tables(options, cache):
    count = options.objects
    filled, empty = fill(options, cache)
    print(f"filled: {json.dumps(filled)}, empty: {empty:,}", file=sys.stderr, flush=True)
    starts = {"after SIGTERM": (signal.SIGKILL, False), "after SIGKILL": (signal.SIGKILL, not options.cold)}
    if options.cold:
        starts["after SIGKILL, the kernel knows no file"] = (signal.SIGTERM, True)
    lines, lost, rate = [], 0, 0
    for what, (ends, asks_for_all) in starts.items():
        if "no file" in what:
            forget_all()
        result = started(options, cache, ends, count, asks_for_all)
        print(f"{what}: {json.dumps(result)}", file=sys.stderr, flush=True)
        memory = result["resident"] - empty
        lines.append(
            f"| {what} | {result['ready']:.2f} | {result['first']:.2f} | {result['all']:.2f} | {result['answers']:,} | "
            f"{result['answers'] - result['hits']:,} | {result['errors']:,} | {result['p50_us'] / 1e3:.2f} | "
            f"{result['p99_us'] / 1e3:.2f} | {result['max_us'] / 1e3:.2f} | {memory / 2**20:.1f} | {memory / count:.0f} | "
            f"{result['index'] / count:.0f} |")
        lost, rate = result.get("lost", lost), result.get("rate", rate)
        if lost or result["errors"] or result["answers"] > result["hits"]:
            options.wrong.append(what)
        if memory > MEMORY_BOUND * max(1, count / 1e6) or result["all"] > TIME_BOUND * max(1, count / 1e6):
            options.wrong.append(f"{what}, its bounds")
    head = ["start", "ready, s", "first answer, s", "all known, s", "answers beside it", "no hit", "wrong", "p50 ms", "p99 ms",
            "worst ms", "memory, MiB", "bytes per object", "of them the index"]
    yield "million", "\n".join([
        "## million", "",
        f"{count:,} objects of 1 KiB on the disk, of which 1 MiB is kept in memory. The server is started over them; a client asks "
        f"for objects by chance meanwhile, on {CLIENT[0]} connections, for {CLIENT[1]} s.", "",
        f"| {' | '.join(head)} |", "|" + "---|" * len(head), *lines, "",
        f"Filled with {filled['rate']:,.0f} objects a second; {filled['let_go']:,} had to be fetched again since the disk was slower "
        f"than the origin. Without objects the process has {empty / 2**20:.1f} MiB. "
        f"When each object was asked for once more, {lost:,} were lost; {rate:,.0f} answers a second. The bounds are "
        f"{MEMORY_BOUND >> 20} MiB and {TIME_BOUND} s for a million.", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--cold", action="store_true", help="one more start, after the whole machine's caches of files are dropped")
    parser.add_argument("--folder", type=Path, default=BUILT, help="for the objects, on a disk")
    parser.add_argument("--binary", default=str(compare.TARGET / "release" / compare.OURS))
    parser.add_argument("--write", action="store_true", help="put the table into results.md")
    options = parser.parse_args()
    if options.cold and os.geteuid() != 0:
        parser.error("--cold: only root may have the kernel forget its files")
    BUILT.mkdir(parents=True, exist_ok=True)
    processors = sorted(os.sched_getaffinity(0))
    options.first, options.last = processors[0], processors[-1]
    options.network, options.wrong = compare.own_network(), []
    fair.go_ahead()
    for name, text in million(options):
        print(text, flush=True)
        if options.write:
            compare.write(name, text, options)
    if options.wrong:
        sys.exit(f"not as it has to be: {', '.join(options.wrong)}")


if __name__ == "__main__":
    main()
