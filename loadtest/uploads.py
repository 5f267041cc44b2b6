"""The uploads of compare.py: who takes part, configured how, and what is sent.

Roles:

    upload            files by the plain protocol, which has no answer, by HTTP PUT, by rsync or by FTP
    upload-digest     files by the protocol with "ack" and "sha256": each is hashed, compared and forced to the disk

A measurement sends all files of a case once, all at the same time, into a folder of its own on the machine's disk. What
counts is what the server and its children used from the first byte until every file has its name and its size, and until
no child is left. Sizes are compared each time, contents once for each contestant. The folder is removed afterwards.
"""
import ctypes
import dataclasses
import functools
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

OURS = "netlab-reactor"
GIB, MIB = 1 << 30, 1 << 20
PR_SET_CHILD_SUBREAPER = 36               # Linux: prctl.h
TIMEOUT = 120             # seconds, of one measurement
FTP_AT_ONCE = 32          # the connections that vsftpd's listen() queues; of more some wait for their greeting until they are cut

# ---- configurations; {up} is the folder of the files, {place} the one that it is in -----------------------------------

NETLAB = """[[listener]]
kind = "upload"
bind = "127.0.0.1:{port}"
dir = "{up}"
handshake = "none"
"""
NGINX = """daemon off; {nginx_user} worker_processes 1; pid {dir}/pid; error_log stderr error; worker_rlimit_nofile {nofile};
events {{ worker_connections 12000; multi_accept on; }}
http {{
    access_log off; tcp_nodelay on;
    client_body_temp_path {place}/temp; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
    uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ root {up}; dav_methods PUT; client_max_body_size 0; client_body_buffer_size 256k; }}
    }}
}}
"""
RSYNC = """port = {port}
address = 127.0.0.1
listen backlog = 256
use chroot = no
pid file = {dir}/pid
log file = {dir}/rsync.log
{rsync_user}[up]
path = {up}
read only = no
"""
VSFTPD = """listen=YES
listen_address=127.0.0.1
listen_port={port}
background=NO
anonymous_enable=YES
anon_upload_enable=YES
write_enable=YES
anon_root={place}
no_anon_password=YES
anon_umask=022
file_open_mode=0644
seccomp_sandbox=NO
max_clients=0
max_per_ip=0
xferlog_enable=NO
secure_chroot_dir={dir}/empty
"""


def for_anybody(values):
    """Who logs in over FTP is the user `ftp`; the folder above must not be that user's to write into."""
    (Path(values["dir"]) / "empty").mkdir()
    Path(values["up"]).chmod(0o777)


# ---- contestants: name -> role -> (command, configuration), and what is to be done before it starts ------------------

SERVE = "{ours} -qq --config {conf}"
CONTESTANTS = {
    OURS: {"upload": (SERVE, NETLAB), "upload-digest": (SERVE, NETLAB)},
    "bare": {"upload": ("{built}/sink splice {port} {up}", ""), "upload-digest": ("{built}/sink digest {port} {up}", "")},
    "bare copy": {"upload": ("{built}/sink copy {port} {up}", "")},
    "bare synced": {"upload-digest": ("{built}/sink digest-sync {port} {up}", "")},
    "nginx": {"upload": ("nginx -e stderr -c {conf}", NGINX)},
    "rsync": {"upload": ("rsync --daemon --no-detach --config={conf}", RSYNC)},
    "vsftpd": {"upload": ("vsftpd {conf}", VSFTPD, for_anybody)},
}
ROLES = ("upload", "upload-digest")
CLIENTS = {"nginx": "put", "rsync": "rsync", "vsftpd": "ftp"}      # of the others: "plain", or "ack" where it is digests

# ---- cases: name -> (role, what it is, unit, (files, bytes of each)) -------------------------------------------------

CASES = {
    "upload-1g": ("upload", "one file of 1 GiB", "GiB", (1, GIB)),
    "upload-100": ("upload", "100 files of 10 MiB at once", "GiB", (100, 10 * MIB)),
    "upload-digest": ("upload-digest", "100 files of 10 MiB at once, each with its SHA-256 and an answer", "GiB", (100, 10 * MIB)),
}
SMOKE = {1: (1, 32 * MIB), 100: (10, MIB)}                         # what is sent instead


@functools.cache
def has_openssl():
    """Whether programs in C can use its digests."""
    argv = ["cc", "-E", "-x", "c", "-include", "openssl/evp.h", "-o", os.devnull, os.devnull]
    return subprocess.run(argv, capture_output=True, timeout=60).returncode == 0


def can(name, role):
    """Whether what the contestant needs beside its own program is there."""
    if name.startswith("bare") and role == "upload-digest":
        return has_openssl()
    return name != "vsftpd" or (os.geteuid() == 0 and shutil.which("curl") is not None)


def prepare(here, built):
    """Builds the C programs."""
    flags = ["-DDIGEST", "-lcrypto"] if has_openssl() else []
    subprocess.run(["cc", "-O2", "-o", built / "sink", here / "sink.c", *flags], check=True)
    subprocess.run(["cc", "-O2", "-o", built / "push", here / "push.c"], check=True)


# ---- what is sent ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class File:
    path: Path
    name: str
    size: int
    digest: str


def digest_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else hashlib.sha256(
            file.read()).hexdigest()


@functools.cache
def files(folder, count, size):
    """The files to send, of random bytes; they are made where they are not there, and kept for the next run."""
    where = folder / f"{count}x{size}"
    where.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(count):
        path = where / str(number)
        if not path.exists() or path.stat().st_size != size:
            with open(path, "wb") as file:
                for _ in range(0, size, MIB):
                    file.write(os.urandom(MIB))
        made.append(File(path, f"file-{number}", size, digest_of(path)))
    return made


# ---- the clients -----------------------------------------------------------------------------------------------------


def commands(how, port, sent, built):
    """What sends the files: commands that run at the same time, and what they get on standard input."""
    if how == "rsync":
        return [["rsync", "-W", f.path, f"rsync://127.0.0.1:{port}/up/{f.name}"] for f in sent], ""
    if how == "ftp":
        each = [word for f in sent for word in ("-T", f.path, f"ftp://127.0.0.1:{port}/up/{f.name}")]
        return [["curl", "-sS", "-Z", "--parallel-immediate", "--parallel-max", str(FTP_AT_ONCE), *each]], ""
    return [[built / "push", how, str(port)]], "".join(f"{f.path} {f.name} {f.size} {f.digest}\n" for f in sent)


def send(name, server, how, sent, built, meanwhile):
    """Sends all files and returns when the clients have ended."""
    argvs, given = commands(how, server.port, sent, built)
    until = time.monotonic() + TIMEOUT
    with tempfile.TemporaryFile("w+") as told, tempfile.TemporaryFile("w+") as asked:
        asked.write(given)
        asked.seek(0)
        running = [subprocess.Popen(argv, stdin=asked, stdout=told, stderr=told) for argv in argvs]
        try:
            while any([process.poll() is None for process in running]) and time.monotonic() < until:
                meanwhile()
                time.sleep(0.02)
        finally:
            for process in running:
                if process.poll() is None:
                    process.kill()
                process.wait()
        told.seek(0)
        text = told.read()
    pushed = json.loads(text.splitlines()[-1]) if how in ("plain", "ack", "put") and text.startswith("{") else {"errors": 0}
    if any(process.returncode for process in running) or pushed["errors"]:
        raise RuntimeError(f"{name}: the files could not be sent: {text[-500:]}")


class Orphans:
    """Processes of a server whose parents ended without waiting for them, as vsftpd's do: from here on they become ours.

    The kernel adds what they used to nobody's figures but those of the one who waits for them.
    """

    def __init__(self, family):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.family, self.cpu = family, 0.0
        self.known = self.children()

    def children(self):
        return {pid for pid, fields in self.family(os.getpid()).items() if int(fields[1]) == os.getpid()}

    def end(self):
        """Takes up those that have ended; whether there is none any more."""
        strangers = self.children() - self.known
        for pid in strangers:
            ended, _, used = os.wait4(pid, os.WNOHANG)
            self.cpu += used.ru_utime + used.ru_stime if ended else 0
        return not strangers


def wait_until_stored(name, server, up, sent, before, orphans):
    """Returns when all files are whole, and no process is left that was not there `before`."""
    until = time.monotonic() + TIMEOUT
    sizes = {}
    while time.monotonic() < until:
        sizes = {path.name: path.stat().st_size for path in up.iterdir() if path.is_file()}
        if all(sizes.get(f.name) == f.size for f in sent) and set(orphans.family(server.process.pid)) <= before and orphans.end():
            return
        time.sleep(0.01)
    raise RuntimeError(f"{name}: {len(sent)} files were sent, these are there: {sizes}")


# ---- one measurement -------------------------------------------------------------------------------------------------


def touch_memory(place, count):
    """Writes so many bytes and removes them, so that the kernel has that memory at hand.

    The hypervisor may have taken back what was free for two seconds; who gets it then waits, and that is charged to it.
    """
    block = os.urandom(MIB)
    with open(place / "touched", "wb", buffering=0) as file:
        for _ in range(0, count, MIB):
            file.write(block)
    (place / "touched").unlink()


def measure_once(case, name, options, compare):
    """One measurement of one contestant; `compare` is the module that calls."""
    role, _, _, (count, size) = CASES[case]
    if options.smoke:
        count, size = SMOKE[count]
    sent = files(compare.BUILT / "uploaded", count, size)
    how = "ack" if role == "upload-digest" else CLIENTS.get(name, "plain")
    (compare.BUILT / "uploads").mkdir(exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=compare.BUILT / "uploads"))
    place.chmod(0o755)
    up = place / "up"
    up.mkdir()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {options.last})         # the clients, too
    try:
        with compare.Server(name, role, options, place=place, up=up) as server:
            pid = server.process.pid
            orphans = Orphans(compare.family)
            touch_memory(place, count * size)
            family = settled(compare, pid, orphans)
            orphans.cpu = 0
            cpu, busy, began = compare.cpu_seconds(pid), compare.busy_seconds(options.first), time.monotonic()
            send(name, server, how, sent, compare.BUILT, lambda: compare.pin(pid, options.first))
            wait_until_stored(name, server, up, sent, family, orphans)
            seconds = time.monotonic() - began
            cpu, busy = compare.cpu_seconds(pid) - cpu + orphans.cpu, compare.busy_seconds(options.first) - busy
        proven = options.__dict__.setdefault("proven", set())
        if (case, name) not in proven:
            if wrong := [f.name for f in sent if digest_of(up / f.name) != f.digest]:
                raise RuntimeError(f"{name}: other bytes than were sent are in {', '.join(wrong)}")
            proven.add((case, name))
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.sched_setaffinity(0, before)
    gib = count * size / GIB
    return dict(operations=gib, seconds=seconds, errors=0, lost=0, p50_us=0, p99_us=0, others=max(0.0, busy - cpu) / seconds,
                per_cpu=gib / max(cpu, 1 / compare.TICKS), rate=gib / seconds, server_cpu=cpu / seconds)


def settled(compare, pid, orphans):
    """The processes of a server once those are gone that it had for the connection which asked whether it is there."""
    until, seen = time.monotonic() + 2, set()
    while time.monotonic() < until:
        now = set(compare.family(pid))
        if orphans.end() and now == seen:
            break
        seen = now
        time.sleep(0.1)
    return seen
