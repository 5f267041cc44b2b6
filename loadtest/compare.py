#!/usr/bin/env python3
"""Runs netlab-reactor and its peers in turn, in one run, and compares what they do per second of processor time.

    cargo build --release
    python3 loadtest/compare.py                          every case, every contestant that is installed
    python3 loadtest/compare.py http-128 tcp-64          some cases
    python3 loadtest/compare.py --only nginx,bare --rounds 9 --seconds 5
    python3 loadtest/compare.py --against OTHER_BINARY   another build takes part, as `other`
    python3 loadtest/compare.py --write                  puts the tables into loadtest/results.md
    python3 loadtest/compare.py --syscalls http-128      system calls per operation, from strace and perf
    python3 loadtest/compare.py --slow                   slow clients, from slow.sh
    python3 loadtest/compare.py --fair                   an echo client beside floods, as fair.py has it
    python3 loadtest/compare.py --disk                   a slow disk and a cold one, as disk.py has it
    python3 loadtest/compare.py --all --write            all of these: writes loadtest/results.md anew
    python3 loadtest/compare.py --list
    python3 loadtest/compare.py --smoke                  a second per case: does all of it run?

The server runs on the first processor, the load on the last. Each measurement starts a fresh server. The main figure
is operations per second of processor time (user and system) of the server and its children, so a load that cannot keep
the server busy does not change it. Rounds take the contestants in turn; the ratio to netlab-reactor is taken within a
round, and the median over the rounds is what counts. A measurement during which something else used the server's
processor is taken again, up to three times.

Standard library only. Loopback only, as root in a network namespace of its own. Everything is bounded in time.
"""
import argparse
import atexit
import contextlib
import ctypes
import fcntl
import json
import os
import platform
import re
import resource
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import proxies
import uploads

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
BUILT = TARGET / "loadtest"
TICKS = os.sysconf("SC_CLK_TCK")
OURS, OTHER = "netlab-reactor", "other"
DISTURBED = 0.06          # of the server's processor, used by others
IDLE = 10_000
CLONE_NEWNET, SIOCSIFFLAGS, IFF_UP = 0x40000000, 0x8914, 1      # Linux: sched.h, sockios.h, if.h

# ---- contestants: name -> role -> (command, configuration); {…} is filled in at the start -----------------------------

HTTP_CONF = """[[listener]]
kind = "http"
bind = "127.0.0.1:{port}"
root = "{site}"
idle_timeout = "1h"
"""
HTTPS_CONF = HTTP_CONF + 'tls = {{ cert = "{built}/cert.pem", key = "{built}/key.pem" }}\n'
NGINX_CONF = """daemon off; {nginx_user} worker_processes 1; pid {dir}/pid; error_log stderr error; worker_rlimit_nofile {nofile};
events {{ worker_connections 12000; multi_accept on; }}
http {{
    access_log off; sendfile on; tcp_nopush on; default_type application/octet-stream;
    keepalive_timeout 3600; keepalive_requests 1000000000;
    open_file_cache max=1000 inactive=1h; open_file_cache_valid 60s;
    client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
    uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
    server {{ listen 127.0.0.1:{port} backlog=4096; root {site}; }}
}}
"""
NGINX_TLS_CONF = NGINX_CONF.replace(" backlog=4096;", """ ssl backlog=4096; ssl_protocols TLSv1.3;
        ssl_certificate {built}/cert.pem; ssl_certificate_key {built}/key.pem;""")
LIGHTTPD_CONF = """server.document-root = "{site}"
server.bind = "127.0.0.1"
server.port = {port}
server.max-fds = {nofile}
server.max-connections = 12000
server.listen-backlog = 4096
server.network-backend = "sendfile"
server.max-keep-alive-requests = 65535
server.max-keep-alive-idle = 3600
server.max-read-idle = 3600
mimetype.assign = ( "" => "application/octet-stream" )
"""
H2O_CONF = """{h2o_user}num-threads: 1
max-connections: 12000
http1-request-timeout: 3600
error-log: {dir}/error
listen: {{host: 127.0.0.1, port: {port}}}
hosts: {{default: {{paths: {{"/": {{file.dir: "{site}"}}}}}}}}
"""
# For wrk, so that all servers are asked for the same version, cipher suite and key exchange.
OPENSSL_CONF = """openssl_conf = load
[load]
ssl_conf = ssl
[ssl]
system_default = tls
[tls]
MinProtocol = TLSv1.3
Ciphersuites = TLS_AES_128_GCM_SHA256
Groups = X25519
"""
SERVE = "{ours} -qq --config {conf}"
NGINX = "nginx -e stderr -c {conf}"
CONTESTANTS = {
    OURS: {
        "http": (SERVE, HTTP_CONF),
        "https": (SERVE, HTTPS_CONF),
        "tcp": (SERVE, '[[listener]]\nkind = "tcp-echo"\nbind = "127.0.0.1:{port}"\n'),
        "udp": (SERVE, '[[listener]]\nkind = "udp-ping"\nbind = "127.0.0.1:{port}"\nloss = 0.0\n'),
    },
    f"{OURS} http": {"https": (SERVE, HTTP_CONF)},      # what TLS costs
    "bare": {role: (f"{{built}}/bare {role} {{port}}", "") for role in ("http", "tcp", "udp")},
    "bare joined": {"udp": ("{built}/bare udp-joined {port}", "")},
    "bare runs": {"udp": ("{built}/bare udp-runs {port}", "")},
    "nginx": {"http": (NGINX, NGINX_CONF), "https": (NGINX, NGINX_TLS_CONF)},
    "lighttpd": {"http": ("lighttpd -D -f {conf}", LIGHTTPD_CONF)},
    "h2o": {"http": ("h2o -c {conf}", H2O_CONF)},
}
for name, roles in (*proxies.PROXIES.items(), *uploads.CONTESTANTS.items()):
    CONTESTANTS[name] = CONTESTANTS.get(name, {}) | roles

# ---- cases: name -> (role, what it is, unit, load); the load is a command with {port} and {seconds} ------------------

WRK = "wrk -t1 -c64 -d{seconds}s --latency --timeout 5s -s {here}/http.lua {scheme}://127.0.0.1:{port}"
TLS = f"env OPENSSL_CONF={{built}}/openssl.cnf {WRK}"
FULL = f"env LD_PRELOAD={{built}}/handshake.so OPENSSL_CONF={{built}}/openssl.cnf {WRK}"
CASES = {
    "http-128": ("http", "128-byte file, 64 kept connections", "requests", WRK + "/128"),
    "http-1k": ("http", "1 KiB file, 64 kept connections", "requests", WRK + "/1024"),
    "http-16k": ("http", "16 KiB file, 64 kept connections", "requests", WRK + "/16384"),
    "http-1m": ("http", "1 MiB file, 64 kept connections", "requests", WRK + "/1048576"),
    "http-single": ("http", "128-byte file, one kept connection", "requests", WRK.replace("-c64", "-c1") + "/128"),
    "http-pipelined": ("http", "128-byte file, 16 requests at a time", "requests", WRK + "/128 -- depth=16"),
    "http-close": ("http", "128-byte file, a connection for each request", "requests", WRK + "/128 -- close"),
    "http-idle": ("http", f"128-byte file, 64 kept connections beside {IDLE:,} idle ones", "requests", WRK + "/128"),
    "https-128": ("https", "128-byte file over TLS, 64 kept connections", "requests", TLS + "/128"),
    "https-16k": ("https", "16 KiB file over TLS, 64 kept connections", "requests", TLS + "/16384"),
    "https-1m": ("https", "1 MiB file over TLS, 64 kept connections", "requests", TLS + "/1048576"),
    "https-close": ("https", "128-byte file over TLS, a connection and a full handshake for each request", "requests",
                    FULL + "/128 -- close"),
    "tcp-64": ("tcp", "TCP echo, 64 connections, 64-byte messages in turn", "messages",
               "{built}/load tcp {port} 64 64 {seconds}"),
    "tcp-single": ("tcp", "TCP echo, one connection, 64-byte messages in turn", "messages",
                   "{built}/load tcp {port} 1 64 {seconds}"),
    "tcp-1m": ("tcp", "TCP echo, 4 connections, 1 MiB messages", "messages",
               "{built}/load tcp {port} 4 1048576 {seconds}"),
    "udp-64": ("udp", "UDP ping, 64 bytes, 16 sockets with 16 under way each", "datagrams",
               "{built}/load udp {port} 16 16 64 {seconds}"),
    "udp-runs": ("udp", "UDP ping, runs of 32 datagrams of 64 bytes from 16 sockets in turn, more than is answered", "datagrams",
                 "{built}/load udp-runs {port} 16 64 {seconds}"),
    **proxies.CASES,
    **uploads.CASES,
}
NEEDS = {"http": ("wrk",), "https": ("wrk", "openssl")} | {role: ("wrk",) for role in proxies.ROLES if role != "tunnel"}
# Whose system calls are counted if no case is named: http-idle makes those of http-128, TLS is about computing, there are
# too many proxies, and an upload is no operation that comes again and again.
COUNTED = [case for case in CASES if case != "http-idle" and not case.startswith("https")
           and case not in proxies.CASES and case not in uploads.CASES]
PURPOSES = {
    "receive": {"read", "readv", "recvfrom", "recvmsg", "recvmmsg"},
    "send": {"write", "writev", "sendto", "sendmsg", "sendmmsg", "sendfile"},
    "wait": {"epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6"},
}

# ---- the network -----------------------------------------------------------------------------------------------------


def own_network():
    """Moves to a network namespace of our own, with cubic or reno, where that is permitted (to root). What became of it.

    With bbr, the default here and there, the kernel paces even loopback: a row with 1 MiB would tell about its timers.
    """
    if ctypes.CDLL(None).unshare(CLONE_NEWNET) != 0:
        where = "the machine's own network (only root may have a namespace)"
    else:
        where = "a network namespace of its own"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))
        for control in ("cubic", "reno"):           # a namespace may have those that the machine allows to everybody
            try:
                Path("/proc/sys/net/ipv4/tcp_congestion_control").write_text(control)
                break
            except OSError as error:
                where += f", where {control} is not to be had ({error.strerror})"
    with socket.socket() as stream:
        control = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()
    return f"TCP {control} in {where}"


# ---- /proc -----------------------------------------------------------------------------------------------------------


def family(root):
    """The process and its descendants: {pid: fields of /proc/PID/stat from the state on}."""
    every = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            every[int(name)] = Path(f"/proc/{name}/stat").read_text().rsplit(") ", 1)[1].split()
        except OSError:
            pass                                    # it ended meanwhile
    pids = {root}
    while True:
        more = {pid for pid, fields in every.items() if int(fields[1]) in pids} - pids
        if not more:
            return {pid: every[pid] for pid in pids if pid in every}
        pids |= more


def cpu_seconds(root):
    """User and system time of the process, its descendants and those of its children that ended."""
    return sum(sum(map(int, fields[11:15])) for fields in family(root).values()) / TICKS


def anonymous_bytes(root):
    """Resident memory that no file stands behind."""
    total = 0
    for pid in family(root):
        found = re.search(r"^RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.M)
        total += int(found[1]) * 1024 if found else 0
    return total


def busy_seconds(processor):
    """Time that the processor was used, by us, others or the hypervisor."""
    line = next(x for x in Path("/proc/stat").read_text().splitlines() if x.startswith(f"cpu{processor} "))
    v = list(map(int, line.split()[1:]))
    return (sum(v[:3]) + sum(v[5:8])) / TICKS


# ---- another build ---------------------------------------------------------------------------------------------------


def ports_when_ready(process, binary):
    """The port of each listener by its name, once a server that was started says that it is ready."""
    ports = {}
    for line in process.stdout:
        words = line.split()
        if words == ["ready"]:
            return ports
        ports[words[1]] = int(words[2].rsplit(":", 1)[1])
    raise RuntimeError(f"{binary} does not start")


def known_to_all(path, binaries):
    """Takes those keys out of a configuration that one of the builds does not know."""
    for binary in binaries:
        while True:
            done = subprocess.run([binary, "check", "--config", path], capture_output=True, text=True, timeout=20)
            found = re.search(r":(\d+):\d+: unknown key", done.stderr + done.stdout)
            if not found:
                break
            lines = path.read_text().splitlines(keepends=True)
            del lines[int(found[1]) - 1]
            path.write_text("".join(lines))


def admit_other(options):
    """Makes the build of `--against` a contestant wherever ours is one, right behind it."""
    known = dict(CONTESTANTS)
    CONTESTANTS.clear()
    for name, roles in known.items():
        CONTESTANTS[name] = roles
        if name == OURS:
            CONTESTANTS[OTHER] = {role: (command.replace("{ours}", options.against), *more)
                                  for role, (command, *more) in roles.items()}


# ---- one measurement -------------------------------------------------------------------------------------------------


class Server:
    """A contestant that runs, from `with` to the end of its block. Its configuration is filled in with `more` as well."""

    def __init__(self, name, role, options, contestants=CONTESTANTS, **more):
        self.name, self.role, self.options, self.more = name, role, options, more
        self.contestant = contestants[name][role]

    def __enter__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="loadtest-"))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if self.role == "udp" else socket.SOCK_STREAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command, conf, *before = self.contestant
        values = dict(port=self.port, dir=self.dir, conf=self.dir / "conf", site=BUILT / "site", built=BUILT, here=HERE,
                      ours=self.options.binary, nofile=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
                      scheme="https" if "/cert.pem" in conf else "http",
                      tunnel="plain" if self.name in proxies.PLAIN_TUNNELS else "connect")
        if self.role in proxies.ROLES:
            values |= origin(self.options)
        # Started by root they would become somebody who may not read the files.
        root = os.geteuid() == 0
        values |= dict(nginx_user="user root;" if root else "", h2o_user="user: root\n" if root else "",
                       rsync_user="uid = root\ngid = root\n" if root else "")
        values |= self.more
        (self.dir / "conf").write_text(conf.format(**values))
        if self.name in (OURS, OTHER) and getattr(self.options, "against", None):
            known_to_all(self.dir / "conf", (self.options.binary, self.options.against))
        for prepare_it in before:
            prepare_it(values)
        self.values = values
        self.log = open(self.dir / "log", "wb")
        argv = f"taskset -c {self.options.first} {command}".format(**values).split()
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        try:
            self.wait()
            self.pin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait(self):
        """Returns when the server answers."""
        until = time.monotonic() + 10
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if self.role == "udp":
                    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                        probe.settimeout(0.2)
                        probe.connect(("127.0.0.1", self.port))
                        probe.send(b"ready?")
                        probe.recv(100)
                else:
                    socket.create_connection(("127.0.0.1", self.port), 0.2).close()
                return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError(f"{self.name} does not answer: {(self.dir / 'log').read_text(errors='replace')[-500:]}")

    def pin(self):
        """Keeps all its threads on the first processor. Traffic Server's leave the one that it was started on."""
        for pid in family(self.process.pid):
            for task in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(task), {self.options.first})

    def __exit__(self, *_):
        pids = set(family(self.process.pid))
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            for pid in pids & set(family(self.process.pid)):
                os.kill(pid, 9)
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


def origin(options):
    """Where the proxies' origin listens, and the source of what goes through tunnels. It is started when first needed."""
    if not hasattr(options, "origin"):
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            ports = dict(origin=one.getsockname()[1], source=other.getsockname()[1])
        argv = ["taskset", "-c", str(options.last), BUILT / "origin", *map(str, ports.values())]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        atexit.register(process.kill)
        options.origin = ports
    return options.origin


def run_load(case, server, seconds, options, wrap=()):
    """Runs a case's load, as an argument of the command `wrap`; what it says."""
    command = CASES[case][3].format(seconds=seconds, **server.values)
    done = subprocess.run([*wrap, "taskset", "-c", str(options.last), *command.split()], capture_output=True, text=True,
                          timeout=seconds + 60)
    objects = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not objects:
        raise RuntimeError(f"{server.name}: the load failed: {(done.stderr or done.stdout)[-500:]}")
    result = json.loads(objects[-1])
    size = re.search(r"/(\d+)( |$)", command)       # of the file that is asked for
    if size and result["bytes"] < result["operations"] * int(size[1]):
        raise RuntimeError(f"{server.name}: bodies are missing: {result}")
    return result


def pin(pid, processor):
    """Threads that io_uring's kernel side makes start on any processor; this moves those that there are."""
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):          # it ended meanwhile
            os.sched_setaffinity(int(task), {processor})


def measure_once(case, name, options):
    """One measurement of one contestant."""
    if case in uploads.CASES:
        return uploads.measure_once(case, name, options, sys.modules[__name__])
    with Server(name, CASES[case][0], options) as server:
        pid = server.process.pid
        result, idle = {}, None
        if not options.smoke:
            run_load(case, server, 1, options)      # warm caches, grown buffers
        if case == "http-idle":
            cpu = cpu_seconds(pid)
            alone = run_load(case, server, options.seconds, options)["operations"]
            alone = max(alone, 1) / max(cpu_seconds(pid) - cpu, 1 / TICKS)
            before = anonymous_bytes(pid)
            idle = subprocess.Popen(
                ["taskset", "-c", str(options.last), BUILT / "load", "idle", str(server.port), str(options.idle), "/128"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            held = json.loads(idle.stdout.readline())
            time.sleep(0.2)
            result["bytes_per_idle"] = (anonymous_bytes(pid) - before) / options.idle
            result["idle_errors"] = held["errors"]
        cpu, busy, begin = cpu_seconds(pid), busy_seconds(options.first), time.monotonic()
        result |= run_load(case, server, options.seconds, options)
        cpu, busy = cpu_seconds(pid) - cpu, busy_seconds(options.first) - busy
        result["others"] = max(0.0, busy - cpu) / (time.monotonic() - begin)
        if idle:
            rest, _ = idle.communicate(timeout=30)
            result["idle_errors"] += options.idle - json.loads(rest.splitlines()[-1])["still_open"]
        # Never zero: on a machine that is busy with others a short measurement may see hardly anything.
        result["per_cpu"] = max(result["operations"], 1) / max(cpu, 1 / TICKS)
        if idle:
            result["of_alone"] = result["per_cpu"] / alone
        result["rate"] = result["operations"] / result["seconds"]
        result["server_cpu"] = cpu / result["seconds"]
        return result


def least_disturbed(measure_once, options):
    """One measurement; the least disturbed of up to three."""
    best = None
    for _ in range(options.tries):
        result = measure_once()
        if best is None or result["others"] < best["others"]:
            best = result
        if best["others"] < DISTURBED:
            break
    return best


def in_turn(names, count, measure):
    """Rounds of measurements: {contestant: result} for each."""
    for number in range(count):
        shift = number % len(names)                 # nobody always comes first
        results = {name: measure(name) for name in names[shift:] + names[:shift]}
        yield {name: results[name] for name in names}


# ---- reports ---------------------------------------------------------------------------------------------------------


def ratio_cells(rounds, name):
    """Our operations per CPU second divided by those of the contestant: the median and the range."""
    ratios = [r[OURS]["per_cpu"] / r[name]["per_cpu"] for r in rounds if OURS in r]
    if not ratios or name == OURS:
        return ["", ""]
    return [f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f}–{max(ratios):.2f}"]


def figure(value):
    """Requests by ones, GiB by hundredths."""
    return f"{value:,.{0 if value >= 100 else 2}f}"


def table(case, rounds, left_out):
    """The Markdown table of one case; `rounds` has {contestant: result} for each round."""
    role, title, unit, _ = CASES[case]
    idle = case == "http-idle"
    head = ["contestant", f"{unit} per CPU second", f"{OURS} ÷ it", "range", f"{unit}/s", "p50 µs", "p99 µs", "errors"]
    head += ["of that without them", "bytes per idle connection"] if idle else []
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name in rounds[0]:
        of = [r[name] for r in rounds]
        median = lambda key: statistics.median(r[key] for r in of)
        errors = sum(r["errors"] + r["lost"] + r.get("idle_errors", 0) for r in of)
        p99 = f"{median('p99_us'):,.0f}" if median("p99_us") else "-"
        p50 = f"{median('p50_us'):,.0f}" if median("p50_us") else "-"
        row = [name, figure(median("per_cpu")), *ratio_cells(rounds, name), figure(median("rate")), p50, p99, str(errors)]
        row += [f"{median('of_alone'):.2f}", f"{median('bytes_per_idle'):,.0f}"] if idle else []
        lines.append(f"| {' | '.join(row)} |")
    others = statistics.median(r["others"] for of in rounds for r in of.values())
    note = f"{len(rounds)} rounds; others used {100 * others:.1f} % of the server's processor."
    note += f" {left_out}." if left_out else ""
    return f"## {case}\n\n{title[0].upper() + title[1:]}.\n\n" + "\n".join(lines) + f"\n\n{note}\n"


def machine(options):
    """What the figures depend on."""
    def said(*argv):
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=10)
            return (done.stdout or done.stderr).splitlines()[0].strip()
        except (OSError, IndexError):
            return None
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) / 2**20
    commit = said("git", "-C", str(REPOSITORY), "describe", "--always", "--dirty")
    facts = [
        time.strftime("%Y-%m-%d"),
        f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} processors, {memory:.0f} GiB",
        f"{platform.system()} {platform.release()}, {options.network}",
        f"server on processor {options.first}, load on processor {options.last}" +
        (f"; {options.seconds} s a measurement" if "seconds" in options else ""),
        f"{OURS} {commit or ''}, {said('rustc', '--version')}, {said('cc', '--version')}",
        ", ".join(filter(None, (said("nginx", "-v"), said("lighttpd", "-v"), said("h2o", "-v")))),
        ", ".join(filter(None, (said("haproxy", "-v"), said("varnishd", "-V"), said("squid", "-v"),
                                said("traffic_server", "-V"), said("tinyproxy", "-v")))),
        ", ".join(filter(None, (said("rsync", "--version"), said("vsftpd", "-v"), said("openssl", "version")))),
    ]
    return "".join(f"- {fact}\n" for fact in facts if fact)


def written():
    """The sections of results.md: {name: text}."""
    path = HERE / "results.md"
    found = re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", path.read_text(), re.M | re.S) if path.exists() else []
    return {name: f"## {name}\n{text.rstrip()}\n" for name, text in found}


def write(name, text, options):
    """Replaces a section of results.md, and the notes of the machine."""
    sections = written() | {name: text}
    order = (*CASES, "system-calls", "slow-clients", "fairness", "udp-overload", "slow-disk", "cold-disk", "million")
    kept = [sections[name] for name in order if name in sections]
    about = ("# Results\n\nWritten by `python3 loadtest/compare.py --all --write`; how to read them is said in "
             "[README.md](README.md).\nOnly rows of one table can be compared.\n\nThe machine of the last run:\n\n")
    (HERE / "results.md").write_text(about + machine(options) + "\n" + "\n".join(kept))


# ---- system calls ----------------------------------------------------------------------------------------------------


def is_traced(pids):
    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    return all(re.search(r"^TracerPid:\s+[1-9]", (task / "status").read_text(), re.M) for task in tasks)


def strace_counts(case, server, options):
    """System calls per operation, as strace counts them: {call: number}.

    It slows the server down so much that each wait finds every connection ready: of waiting it sees too little.
    """
    counts = BUILT / "strace"
    pids = sorted(family(server.process.pid))
    argv = ["taskset", "-c", str(options.first), "strace", "-f", "-c", "-o", counts, *(f"-p{pid}" for pid in pids)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as strace:
        while not is_traced(pids):
            if strace.poll() is not None:
                raise RuntimeError(f"strace does not attach to {server.name}: {strace.stderr.read()[-500:]}")
            time.sleep(0.02)
        operations = run_load(case, server, options.seconds, options)["operations"]
        strace.send_signal(signal.SIGINT)
        strace.communicate(timeout=10)
    rows = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", counts.read_text(), re.M)
    return {call: int(count) / operations for count, call in rows if call != "total"}


def perf_counts(case, server, options, calls, tracepoints):
    """The same by perf, at full speed. It must be told what to count: `calls`, by the kernel's names for them."""
    counts = BUILT / "perf"
    named = {name: call for call in calls for name in (call, f"new{call}", f"{call}64") if name in tracepoints}
    pids = ",".join(map(str, sorted(family(server.process.pid))))
    wrap = ["perf", "stat", "-x,", "-o", counts, "-p", pids, "-e", ",".join(f"syscalls:sys_enter_{n}" for n in named), "--"]
    operations = run_load(case, server, options.seconds, options, wrap)["operations"]
    rows = re.findall(r"^(\d+),,syscalls:sys_enter_(\w+),", counts.read_text(), re.M)
    return {named[name]: int(count) / operations for count, name in rows}


def calls_row(case, name, calls):
    """One line of the table of system calls."""
    kinds = {kind: {} for kind in (*PURPOSES, "others")}
    for call, count in sorted(calls.items(), key=lambda item: -item[1]):
        if count >= 0.005:
            kinds[next((kind for kind in PURPOSES if call in PURPOSES[kind]), "others")][call] = count
    cells = [", ".join(f"{count:.2f} {call}" for call, count in counted.items()) for counted in kinds.values()]
    return f"| {case} | {name} | {sum(calls.values()):.2f} | {' | '.join(cells)} |"


def system_calls(options):
    """The section of the system calls. The lines in results.md stay for cases that are not counted now."""
    tracepoints = set()
    if shutil.which("perf"):                        # as root it mounts tracefs where that is missing
        done = subprocess.run(["perf", "list", "syscalls:sys_enter_*"], capture_output=True, text=True, timeout=60)
        tracepoints |= set(re.findall(r"syscalls:sys_enter_(\w+)", done.stdout))
    lines = {}
    for line in written().get("system-calls", "").splitlines() if options.write else []:
        case = line.removeprefix("| ").split(" | ")[0]
        if case in CASES:
            lines.setdefault(case, []).append(line)
    for case, names in taking_part(options, COUNTED):
        lines[case] = []
        for name in names:
            with Server(name, CASES[case][0], options) as server:
                calls = strace_counts(case, server, options)
                if tracepoints:
                    calls |= perf_counts(case, server, options, calls, tracepoints)
            lines[case].append(calls_row(case, name, calls))
            print(lines[case][-1], file=sys.stderr)
    about = "System calls per request, message or datagram, counted by "
    about += "perf at full speed." if tracepoints else "strace, which slows servers down: in truth they wait more often."
    head = ["case", "contestant", "calls per operation", *PURPOSES, "others"]
    rows = [line for case in CASES for line in lines.get(case, [])]
    yield "system-calls", "\n".join([
        "## system-calls", "", about, "", f"| {' | '.join(head)} |", "|" + "---|" * len(head), *rows, ""])


# ---- slow clients ----------------------------------------------------------------------------------------------------


def slow_clients(options):
    """The section of the slow clients, as slow.sh tells it."""
    names = [name for name in (OURS, "nginx") if installed(name)]
    modes = {}
    clients, length = (200, 4) if options.smoke else (2000, 20)
    for name in names:
        values = os.environ | dict(BINARY=options.binary, CLIENTS=str(clients), LENGTH=str(length))
        done = subprocess.run([HERE / "slow.sh", name], env=values, capture_output=True, text=True,
                              timeout=4 * length + 120)
        told = re.findall(r"^(.+): available (.+)$", done.stdout, re.M)
        if len(told) != 4:
            raise RuntimeError(f"slow.sh {name}: {(done.stderr or done.stdout)[-500:]}")
        for mode, outcome in told:
            modes.setdefault(mode, []).append(outcome)
    yield "slow-clients", "\n".join([
        "## slow-clients", "",
        f"{clients:,} connections of slowhttptest for {length} s: how long the server was available.", "",
        f"| mode | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|",
        *(f"| {mode} | {' | '.join(outcomes)} |" for mode, outcomes in modes.items()), ""])


# ---- floods ----------------------------------------------------------------------------------------------------------


def floods(options):
    """The section of the floods, as fair.py has it."""
    import fair                                     # it imports this file
    fair.go_ahead()
    short = dict(floods=["file", "umlauts", "udp-overload"], clients=[1], rounds=1, seconds=1) if options.smoke else {}
    yield from fair.sections(argparse.Namespace(**fair.DEFAULTS | vars(options) | dict(rounds=3, seconds=2) | short))


# ---- disks -----------------------------------------------------------------------------------------------------------


def disks(options):
    """The sections of the slow disk and the cold one, as disk.py has them."""
    import disk                                     # it imports this file
    import fair
    fair.go_ahead()
    yield from disk.disks(argparse.Namespace(**vars(options) | disk.DEFAULTS))


# ---- the run ---------------------------------------------------------------------------------------------------------


def prepare(options):
    """Builds the C programs and the served files."""
    (BUILT / "site").mkdir(parents=True, exist_ok=True)
    BUILT.chmod(0o755)
    for size in (128, 1024, 16384, 1 << 20):
        (BUILT / "site" / str(size)).write_bytes(b"x" * size)
    (BUILT / "site" / "kept").mkdir(exist_ok=True)
    for size in (1024, 65536):
        (BUILT / "site" / "kept" / str(size)).write_bytes(b"x" * size)
    for program, made, flags in (("bare", "bare", []), ("load", "load", []), ("origin", "origin", []), ("relay", "relay", []),
                                 ("handshake", "handshake.so", ["-shared", "-fPIC"])):
        subprocess.run(["cc", "-O2", *flags, "-o", BUILT / made, HERE / f"{program}.c"], check=True)
    uploads.prepare(HERE, BUILT)
    (BUILT / "openssl.cnf").write_text(OPENSSL_CONF)
    if shutil.which("openssl"):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
             "-subj", "/CN=127.0.0.1", "-keyout", BUILT / "key.pem", "-out", BUILT / "cert.pem"],
            check=True, capture_output=True)
    for binary in filter(None, (options.binary, options.against)):
        if not Path(binary).exists():
            sys.exit(f"{binary} is missing: cargo build --release")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = max(hard, 2 * options.idle + 1000)     # lighttpd wants two for each connection
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, enough))
    except ValueError:                              # only root may have more than there were
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def installed(name, role=None):
    program = CONTESTANTS[name][role or next(iter(CONTESTANTS[name]))][0].split()[0]
    is_there = program.startswith("{") or shutil.which(program) is not None
    return is_there and (role not in uploads.ROLES or uploads.can(name, role))


def on_disk(folder):
    """Ends the run if the folder is in memory."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True).stdout.strip()
    if kind in ("tmpfs", "ramfs"):
        sys.exit(f"{folder} is in memory ({kind}), but has to be on a disk: CARGO_TARGET_DIR or --folder may name another")


def lacks(case):
    """What is not there that the case needs, or None."""
    for program in NEEDS.get(CASES[case][0], ()):
        if not shutil.which(program):
            return f"{program} is not installed"
    if case == "https-close" and b"libssl.so" not in Path(shutil.which("wrk")).read_bytes():
        return "wrk does not load libssl, so it cannot be kept from resuming sessions"
    return None


def taking_part(options, default):
    """The cases of this run, each with its contestants."""
    wanted = set(options.only.split(",")) | {OURS, OTHER} if options.only else set(CONTESTANTS)
    for case in options.cases or default:
        if lack := lacks(case):
            print(f"{case}: left out, {lack}", file=sys.stderr)
            continue
        role = CASES[case][0]
        yield case, [n for n in CONTESTANTS if n in wanted and role in CONTESTANTS[n] and installed(n, role)]


def comparisons(options):
    """The section of each case."""
    for case, names in taking_part(options, CASES):
        left_out = None
        if case in uploads.CASES and not options.smoke:
            on_disk(BUILT)
        allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if case == "http-idle" and "lighttpd" in names and allowed < 2 * (options.idle + 64):
            names.remove("lighttpd")
            left_out = f"lighttpd is left out: it takes a connection for every two descriptors, and has {allowed:,} here"
        rounds = []
        measure = lambda name: least_disturbed(lambda: measure_once(case, name, options), options)
        for results in in_turn(names, options.rounds, measure):
            rounds.append(results)
            print(f"{case} round {len(rounds)}: " +
                  ", ".join(f"{n} {figure(rounds[-1][n]['per_cpu'])}" for n in names), file=sys.stderr)
        options.wrong += [case for r in rounds if r[OURS]["errors"]]
        yield case, table(case, rounds, left_out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="default: all of them")
    parser.add_argument("--only", help=f"contestants, with commas; {OURS} always takes part")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of one measurement")
    parser.add_argument("--tries", type=int, default=3, help="of a disturbed measurement")
    parser.add_argument("--idle", type=int, default=IDLE, help="idle connections in http-idle")
    parser.add_argument("--binary", default=str(TARGET / "release" / OURS))
    parser.add_argument("--against", metavar="BINARY", help=f"another build of {OURS}, which takes part as `{OTHER}`")
    parser.add_argument("--write", action="store_true", help="put the tables into results.md")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--syscalls", action="store_true", help="count system calls instead")
    what.add_argument("--slow", action="store_true", help="ask with slow clients instead")
    what.add_argument("--fair", action="store_true", help="let others flood instead")
    what.add_argument("--disk", action="store_true", help="serve from a slow disk and from a cold one instead")
    what.add_argument("--all", action="store_true", help="compare, count and ask")
    parser.add_argument("--smoke", action="store_true", help="one short round")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    wrong = set(options.cases) - set(CASES)
    if wrong:
        parser.error(f"no such case: {', '.join(sorted(wrong))}; there are {', '.join(CASES)}")
    if options.cases and (options.slow or options.fair or options.disk):
        parser.error("--slow, --fair and --disk have no cases")
    if options.syscalls and (uncounted := set(options.cases) & set(uploads.CASES)):
        parser.error(f"--syscalls: not counted for {', '.join(sorted(uncounted))}")
    if options.list:
        for case, (role, title, _, _) in CASES.items():
            there = [name for name in CONTESTANTS if role in CONTESTANTS[name]]
            print(f"{case:16}{title}: {', '.join(n if installed(n, role) else n + ' (not installed)' for n in there)}")
        return
    if options.smoke:
        options.rounds, options.seconds, options.tries, options.idle = 1, 1, 1, 500
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        sys.exit("two processors are needed: one for the server, one for the load")
    options.first, options.last = processors[0], processors[-1]
    options.network, options.wrong = own_network(), []
    if options.against:
        admit_other(options)
    prepare(options)
    others = options.syscalls or options.slow or options.fair or options.disk
    kinds = [comparisons] if options.all or not others else []
    for kind, asked, program in ((system_calls, options.syscalls, "strace"), (slow_clients, options.slow, "slowhttptest")):
        if asked or options.all:
            if not shutil.which(program):
                sys.exit(f"{program} is not installed")
            kinds.append(kind)
    if options.fair or options.all:
        kinds.append(floods)
    if options.disk or (options.all and not options.smoke):
        kinds.append(disks)
    for kind in kinds:
        for name, text in kind(options):
            print(text, flush=True)
            if options.write:
                write(name, text, options)          # a run that is cut short keeps what it has
    if options.wrong:
        sys.exit(f"{OURS} answered wrongly in {', '.join(sorted(set(options.wrong)))}")


if __name__ == "__main__":
    main()
