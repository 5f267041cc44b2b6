#!/usr/bin/env python3
"""Who waits for a disk: a folder each of whose calls takes 100 ms, and files of the machine's own that are not in memory.

    cargo build --release
    python3 loadtest/disk.py                             both tables
    python3 loadtest/disk.py cold-disk --rounds 5
    python3 loadtest/disk.py --write                     puts them into loadtest/results.md (so does compare.py --all)

Beside the clients of the disk one client asks again and again for a small file of another folder, which is in memory, and
with this server one more for a TCP echo. Server on the first processor, all clients and the slow file system on the last;
those that ask again and again are ahead of the others there (SCHED_FIFO, to root only).

The slow folder is tests/slow_disk/fs.py: it needs fusermount3, libfuse3, and mfusepy in `NETLAB_TEST_PYTHON` (default
`python3`). The cold files take 1 GiB, are kept for the next run, and need a disk (`--folder`), not a tmpfs.

Standard library only. Loopback only, as root in a network namespace of its own. Everything is bounded in time.
"""
import argparse
import contextlib
import json
import multiprocessing
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import compare
import fair

OURS, BUILT = compare.OURS, compare.BUILT
PYTHON = os.environ.get("NETLAB_TEST_PYTHON", "python3")
PER_CALL = 0.1                        # seconds that each call of the slow disk takes
FETCHERS, FILES, MISSING, LISTED, UPLOADS = 16, 48, 8, 200, 12
CALLS_PER_FILE = 5                    # its folder, its name, opened, looked at, read
SMALL, LARGE = (8000, 64 << 10), (500, 1 << 20)      # cold files of two sizes, 1 GiB of them
CONNECTIONS = 48
PAUSE_MS = 2                          # of those who ask again and again
TIMEOUT = 180                         # seconds, of any answer
HOT = bytes(range(33, 127)) + b"\n"   # the small file that is in memory
DEFAULTS = dict(tables=None, rounds=3, folder=BUILT / "cold")

# ---- contestants -----------------------------------------------------------------------------------------------------

# {port} has the small file in memory, {disk_port} what is on the disk. Who can connect to the first finds all of them
# open, so it comes last.
OUR_CONF = """[disk]
engine = "[engine]"
[[listener]]
kind = "tcp-echo"
bind = "127.0.0.1:{echo_port}"
[[listener]]
name = "disk"
kind = "http"
bind = "127.0.0.1:{disk_port}"
root = "{root}"
[more]
[[listener]]
name = "memory"
kind = "http"
bind = "127.0.0.1:{port}"
root = "{site}"
"""
OUR_SLOW_DISK = """listing = true
access_log = "{root}/../logs/access.log"
answer_timeout = "2m"
[[listener]]
kind = "upload"
bind = "127.0.0.1:{upload_port}"
dir = "{root}/../uploads"
handshake = "none"
"""
# The pool's threads are as many as nginx has if nobody says a number.
NGINX_CONF = compare.NGINX_CONF.replace("worker_processes 1;", "worker_processes 1; thread_pool disk threads=32;").replace(
    "    server {{", "    server {{ listen 127.0.0.1:{disk_port} backlog=4096; root {root}; [more] }}\n    server {{")


def ours(engine):
    conf = OUR_CONF.replace("[engine]", engine)
    return {role: (compare.SERVE, conf.replace("[more]", more)) for role, more in (("slow", OUR_SLOW_DISK), ("cold", ""))}


def nginx(more):
    slow = more + " autoindex on; access_log {root}/../logs/access.log;"
    return {role: (compare.NGINX, NGINX_CONF.replace("[more]", text)) for role, text in (("slow", slow), ("cold", more))}


CONTESTANTS = {
    OURS: ours("io_uring"),
    f"{OURS} threads": ours("threads"),
    f"{OURS} inline": ours("inline"),
    "nginx": nginx(""),
    "nginx aio threads": nginx("aio threads=disk;"),
}


def free_ports(count):
    """Ports that nobody listens on."""
    with contextlib.ExitStack() as held:
        return [held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)]


def serve(name, role, options, root):
    """A contestant that serves the folder `root`, and the small file."""
    ports = dict(zip(("disk_port", "echo_port", "upload_port"), free_ports(3)))
    return compare.Server(name, role, options, CONTESTANTS, root=root, site=BUILT / "memory", **ports)


# ---- /proc -----------------------------------------------------------------------------------------------------------


def read_bytes(root):
    """What the process and its descendants have had read from a disk."""
    texts = [Path(f"/proc/{pid}/io").read_text() for pid in compare.family(root)]
    return sum(int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith("read_bytes:"))


def cpu_seconds(root):
    """What the server used, and whatever the kernel's own threads did meanwhile."""
    of_kernel = compare.cpu_seconds(2) if Path("/proc/2/comm").read_text() == "kthreadd\n" else 0
    return compare.cpu_seconds(root), of_kernel


@contextlib.contextmanager
def watched(server, options, result):
    """Puts into `result` what the server used while the block ran: of processors and of the disk; and what others used."""
    pid, began = server.process.pid, time.monotonic()
    (cpu, kernel), busy, read = cpu_seconds(pid), compare.busy_seconds(options.first), read_bytes(pid)
    yield
    cpu, kernel = (now - then for now, then in zip(cpu_seconds(pid), (cpu, kernel)))
    result["cpu"], result["read"] = cpu + max(0.0, kernel), read_bytes(pid) - read
    result["others"] = max(0.0, compare.busy_seconds(options.first) - busy - cpu) / (time.monotonic() - began)


# ---- those who ask again and again -----------------------------------------------------------------------------------


def probe(port, request, answer, stop, told):
    """Asks until it is stopped, with pauses; tells how long the answers took, and how many were wrong.

    Who waits does not ask. So for each wait those are added that would have begun meanwhile, or a server that stands
    still for half a minute would be slow once.
    """
    with contextlib.suppress(OSError):              # only root may
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    waits, wrong = [], 0
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not stop.is_set():
            began, came = time.monotonic(), b""
            client.sendall(request)
            try:
                while not came.endswith(answer):
                    piece = client.recv(1 << 16)
                    if not piece:
                        raise OSError("the server has closed the connection")
                    came += piece
            except OSError as error:
                print(f"probe: {error}", file=sys.stderr)
                wrong += 1
                break
            took = 1e3 * (time.monotonic() - began)
            waits += [took - PAUSE_MS * missed for missed in range(int(took / PAUSE_MS) + 1)]
            time.sleep(PAUSE_MS / 1e3)
    told.send((sorted(waits), wrong))


@contextlib.contextmanager
def probes(server, result):
    """Asks a server as long as the block runs; puts the quantiles, in ms, and the wrong answers into `result`."""
    asked = {"file": (server.port, fair.get("/hot"), b"\r\n\r\n" + HOT)}
    if server.name.startswith(OURS):
        asked["echo"] = (server.values["echo_port"], b"ping\n", b"PING\n")
    stop, running = multiprocessing.Event(), {}
    for what, how in asked.items():
        told, tell = multiprocessing.Pipe(False)
        running[what] = told, multiprocessing.Process(target=probe, args=(*how, stop, tell), daemon=True)
        running[what][1].start()
    time.sleep(0.3)
    try:
        yield
    finally:
        stop.set()
        for what, (told, process) in running.items():
            if not told.poll(TIMEOUT):
                raise RuntimeError(f"{server.name}: who asks for {what} does not end")
            waits, wrong = told.recv()
            process.join()
            result["wrong"] = result.get("wrong", 0) + wrong
            for quantile, share in (("p50", 0.5), ("p99", 0.99), ("worst", 1)):
                result[f"{what} {quantile}"] = waits[int((len(waits) - 1) * share)]


def probe_cells(median, name):
    """The cells of those who asked, as `PROBED` has them."""
    asked = ["file", "echo"] if name.startswith(OURS) else ["file"]
    cells = [" / ".join(f"{median(f'{what} {quantile}'):,.2f}" for quantile in ("p50", "p99", "worst")) for what in asked]
    return cells + [""] * (len(PROBED) - len(cells))


PROBED = [f"{what}, p50 / p99 / worst ms" for what in ("file in memory", "TCP echo")]

# ---- a slow disk -----------------------------------------------------------------------------------------------------


def content(number):
    """About 100 kB, another one for each number."""
    line = f"{number:07}\n".encode()
    return line * 12_500 + line * number


def cold(number):
    """A file's name; a fetcher's files are in a folder of its own, where it looks for names alone."""
    return f"{number % FETCHERS}/{number}.bin"


@contextlib.contextmanager
def slow_folder():
    """A slow folder, with nothing of it in memory, and the folder behind it."""
    with tempfile.TemporaryDirectory(prefix="disk-") as name:
        behind, mounted = Path(name) / "behind", Path(name) / "mounted"
        folders = ["site/many", "uploads", "logs", *(f"site/{number}" for number in range(FETCHERS))]
        for folder in (mounted, *(behind / folder for folder in folders)):
            folder.mkdir(parents=True)
        for number in range(FILES):
            (behind / "site" / cold(number)).write_bytes(content(number))
        for number in range(LISTED):
            (behind / f"site/many/entry-{number}.txt").write_text(str(number))
        process = subprocess.Popen([PYTHON, compare.REPOSITORY / "tests/slow_disk/fs.py", behind, mounted, str(PER_CALL)],
                                   stdout=subprocess.PIPE, text=True)
        try:
            if process.stdout.readline() != "mounted\n":
                raise RuntimeError("the slow folder cannot be mounted")
            yield behind, mounted
        finally:
            subprocess.run(["fusermount3", "-u", "-z", "-q", mounted], timeout=10)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()


def fetched(port, path):
    """The status and the body."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as client:
        client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        head, _, body = b"".join(iter(lambda: client.recv(1 << 18), b"")).partition(b"\r\n\r\n")
        return int(head.split()[1]), body


def fetch_some(port, first):
    """One fetcher's files, one after the other: the waits, and how many were wrong."""
    waits, wrong = [], 0
    for number in range(first, FILES, FETCHERS):
        began = time.monotonic()
        wrong += fetched(port, f"/{cold(number)}") != (200, content(number))
        waits.append(time.monotonic() - began)
    return waits, wrong


def list_folder(port):
    status, page = fetched(port, "/many/")
    is_right = status == 200 and all(page.count(f'entry-{number}.txt"'.encode()) == 1 for number in range(LISTED))
    return 0 if is_right else 1


def ask_for_missing(port):
    return sum(fetched(port, f"/missing-{number}")[0] != 404 for number in range(MISSING))


def upload_all(port, folder):
    """Uploads, and waits until all are stored: how many are not, or not as they were sent."""
    for number in range(UPLOADS):
        body = content(number)
        header = json.dumps({"filename": f"up-{number}.bin", "filesize": len(body)}).encode()
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as client:
            client.sendall(len(header).to_bytes(4, "little") + header + body)
    paths, until = [folder / f"up-{number}.bin" for number in range(UPLOADS)], time.monotonic() + TIMEOUT
    while not all(path.exists() for path in paths) and time.monotonic() < until:
        time.sleep(0.02)
    return sum(not path.exists() or path.read_bytes() != content(number) for number, path in enumerate(paths))


def timed(work, *arguments):
    """What it returned, and the seconds it took."""
    began = time.monotonic()
    return work(*arguments), time.monotonic() - began


def measure_slow(name, options):
    """All at once on a slow disk that nobody has asked for anything yet."""
    result = {}
    with slow_folder() as (behind, mounted):
        with serve(name, "slow", options, mounted / "site") as server, watched(server, options, result):
            wrong = ask_all(server, behind, result)
        lines = (behind / "logs/access.log").read_bytes().count(b"\n")
    result["wrong"] += wrong + abs(FILES + MISSING + 1 - lines)
    return result


def ask_all(server, behind, result):
    """All clients of the slow folder, and those that ask again and again; how many answers to the first were wrong."""
    port = server.values["disk_port"]
    with probes(server, result), ThreadPoolExecutor(FETCHERS + 3) as pool:
        began = time.monotonic()
        fetchers = [pool.submit(fetch_some, port, first) for first in range(FETCHERS)]
        others = {"listing": pool.submit(timed, list_folder, port), "missing": pool.submit(timed, ask_for_missing, port)}
        if server.name.startswith(OURS):
            others["uploads"] = pool.submit(timed, upload_all, server.values["upload_port"], behind / "uploads")
        fetchers = [fetcher.result(TIMEOUT) for fetcher in fetchers]
        result["files"] = time.monotonic() - began
        result["waits"] = sum(sum(waits) for waits, _ in fetchers)
        wrong = sum(wrong for _, wrong in fetchers)
        for what, future in others.items():
            of_it, result[what] = future.result(TIMEOUT)
            wrong += of_it
    return wrong


def slow_disk(options):
    """The section of the slow disk."""
    has_module = subprocess.run([PYTHON, "-c", "import mfusepy"], capture_output=True, timeout=60).returncode == 0
    if not (has_module and shutil.which("fusermount3") and os.access("/dev/fuse", os.R_OK | os.W_OK)):
        print(f"slow-disk: left out, it needs /dev/fuse, fusermount3, and mfusepy in {PYTHON}", file=sys.stderr)
        return
    head = ["contestant", f"{FILES} files, s", "sum of their waits, s", "listing, s", f"{MISSING} missing names, s",
            f"{UPLOADS} uploads, s", *PROBED, "answers wrong"]
    lines, note = rows("slow-disk", head, options, lambda name: measure_slow(name, options), lambda median, rounds, name: [
        *(f"{median(key):.1f}" for key in ("files", "waits", "listing", "missing")),
        f"{median('uploads'):.1f}" if name.startswith(OURS) else "",
        *probe_cells(median, name), str(sum(r[name]["wrong"] for r in rounds))])
    yield "slow-disk", "\n".join([
        "## slow-disk", "",
        f"A disk each of whose calls takes {1e3 * PER_CALL:.0f} ms: {FETCHERS} clients fetch {FILES} files, beside a listing of "
        f"{LISTED} files, {MISSING} names that are not there, an access log and (but for nginx) {UPLOADS} uploads.", "",
        *lines, "",
        f"{note} Of the disk's calls those for the {FILES} files come to about "
        f"{FILES * CALLS_PER_FILE * PER_CALL:.0f} s if they are made one after the other, "
        f"those for the listing to {LISTED * PER_CALL:.0f} s.", ""])


# ---- a cold disk -----------------------------------------------------------------------------------------------------


def cold_files(options):
    """Makes the files, if they are not there: (number, bytes) of each."""
    options.folder.mkdir(parents=True, exist_ok=True)
    compare.on_disk(options.folder)
    sizes = [size for count, size in (SMALL, LARGE) for _ in range(count)]
    for number, size in enumerate(sizes):
        path = options.folder / str(number)
        if not path.exists() or path.stat().st_size != size:
            path.write_bytes(f"{number:07}\n".encode() * (size // 8))
            with open(path, "rb") as file:
                os.fsync(file.fileno())
    return list(enumerate(sizes))


def forget(folder, files):
    """Takes the files' pages from memory. What the kernel knows of names and sizes it keeps."""
    for number, _ in files:
        with open(folder / str(number), "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure_cold(name, files, options):
    """Each file once, in random order, none of them in memory."""
    forget(options.folder, files)
    random.shuffle(files)
    result = {}
    with serve(name, "cold", options, options.folder) as server, tempfile.TemporaryFile("w+") as order:
        order.writelines(f"{number} {size}\n" for number, size in files)
        order.seek(0)
        pid = server.process.pid
        with probes(server, result), watched(server, options, result):
            load = subprocess.Popen([BUILT / "load", "files", str(server.values["disk_port"]), str(CONNECTIONS)],
                                    stdin=order, stdout=subprocess.PIPE, text=True)
            while load.poll() is None:
                compare.pin(pid, options.first)
                time.sleep(0.02)
            told = load.stdout.read()
        if not told:
            raise RuntimeError(f"{name}: the load failed")
        result |= json.loads(told)
    result["wrong"] += result["errors"]
    result["per_cpu"] = len(files) / result["cpu"]
    result["rate"] = len(files) / result["seconds"]
    result["from_disk"] = result["read"] / sum(size for _, size in files)
    return result


def cold_disk(options):
    """The section of the cold disk."""
    files = cold_files(options)
    head = ["contestant", "requests per CPU second", f"{OURS} ÷ it", "range", "requests/s", "p50 ms",
            "p99 ms", *PROBED, "answers wrong"]
    shares = []

    def measure(name):
        result = compare.least_disturbed(lambda: measure_cold(name, files, options), options)
        shares.append(result["from_disk"])
        return result

    lines, note = rows("cold-disk", head, options, measure, lambda median, rounds, name: [
        f"{median('per_cpu'):,.0f}", *compare.ratio_cells(rounds, name), f"{median('rate'):,.0f}",
        f"{median('p50_us') / 1e3:.1f}", f"{median('p99_us') / 1e3:.1f}",
        *probe_cells(median, name), str(sum(r[name]["wrong"] for r in rounds))])
    yield "cold-disk", "\n".join([
        "## cold-disk", "",
        f"{SMALL[0]:,} files of {SMALL[1] >> 10} KiB and {LARGE[0]:,} of {LARGE[1] >> 20} MiB on the machine's disk, none in "
        f"memory: each is fetched once, in random order, over {CONNECTIONS} kept connections.", "",
        *lines, "",
        f"{note} Of the bytes {100 * min(shares):.0f} % or more were read from the disk.", ""])


# ---- the run ---------------------------------------------------------------------------------------------------------


def rows(table, head, options, measure, cells):
    """The lines of a table, of the medians of all rounds, and what disturbed them."""
    (BUILT / "memory").mkdir(parents=True, exist_ok=True)
    (BUILT / "memory" / "hot").write_bytes(HOT)
    subprocess.run(["cc", "-O2", "-o", BUILT / "load", compare.HERE / "load.c"], check=True)
    names, rounds = [name for name in CONTESTANTS if name.startswith(OURS) or shutil.which("nginx")], []
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {options.last})         # the clients, and what is started without a word about where
    try:
        for results in compare.in_turn(names, options.rounds, measure):
            rounds.append(results)
            print(f"{table} round {len(rounds)}: {json.dumps(results)}", file=sys.stderr, flush=True)
    finally:
        os.sched_setaffinity(0, before)
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name in names:
        median = lambda key: statistics.median(r[name][key] for r in rounds)
        lines.append(f"| {' | '.join([name, *cells(median, rounds, name)])} |")
    others = statistics.median(r["others"] for results in rounds for r in results.values())
    return lines, f"{options.rounds} rounds; others used {100 * others:.1f} % of the server's processor."


TABLES = {"slow-disk": slow_disk, "cold-disk": cold_disk}


def disks(options):
    """The sections of both tables."""
    for table in options.tables or TABLES:
        yield from TABLES[table](options)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"default: all of {', '.join(TABLES)}")
    parser.add_argument("--rounds", type=int, default=DEFAULTS["rounds"])
    parser.add_argument("--tries", type=int, default=3, help="of a disturbed measurement")
    parser.add_argument("--folder", type=Path, default=DEFAULTS["folder"], help="for the cold files, on a disk")
    parser.add_argument("--binary", default=str(compare.TARGET / "release" / OURS))
    parser.add_argument("--write", action="store_true", help="put the tables into results.md")
    options = parser.parse_args()
    if wrong := set(options.tables) - set(TABLES):
        parser.error(f"no such table: {', '.join(sorted(wrong))}")
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    processors = sorted(os.sched_getaffinity(0))
    options.first, options.last = processors[0], processors[-1]
    options.network = compare.own_network()
    fair.go_ahead()
    for name, text in disks(options):
        print(text, flush=True)
        if options.write:
            compare.write(name, text, options)


if __name__ == "__main__":
    main()
