#!/usr/bin/env python3
"""Does the memory of a burst go back to the system? Clients that ask for a large file and read nothing, all at once.

    python3 loadtest/burst.py                           every case, 2,000 clients each
    python3 loadtest/burst.py proxy --clients 500       one case
    python3 loadtest/burst.py --binary OTHER            another build

Prints the resident memory of the server before the burst, at its height and after it. Exits 1 if more is left
than `max_pool_bytes` and 32 MiB. Needs openssl for the cases with TLS.
"""

import argparse
import contextlib
import json
import pathlib
import re
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request

MIB = 1 << 20
# A free page is kept up to this, its default.
POOL_BYTES_MAX = 128 * MIB
SLACK_BYTES = 32 * MIB
FILE_BYTES = 4 * MIB

# The kind of listener that the clients come to, whether they speak TLS, and what they do.
CASES = {
    "proxy": ("proxy", False, "read nothing"),
    "proxy-slow": ("proxy", False, "read slowly"),
    "https": ("http", True, "read nothing"),
    "https-slow": ("http", True, "read slowly"),
    "http-head": ("http", False, "send half a head"),
    "https-idle": ("http", True, "send nothing"),
    "echo-body": ("http", False, "send half a body"),
}


def configuration(folder: pathlib.Path) -> str:
    tls = f'tls = {{ cert = "{folder}/cert.pem", key = "{folder}/key.pem" }}\n'
    listener = '[[listener]]\nname = "{name}"\nkind = "{kind}"\nbind = "127.0.0.1:0"\n'
    probe = 'routes = "probe"\nmax_body_bytes = "1MiB"\n'
    return (
        '[limits]\nmax_connections_per_address = 0\n'
        + listener.format(name="origin", kind="http")
        + f'root = "{folder}/site"\n'
        + listener.format(name="http", kind="http")
        + f'root = "{folder}/site"\n' + probe
        + listener.format(name="https", kind="http")
        + f'root = "{folder}/site"\n' + tls
        + listener.format(name="proxy", kind="proxy")
        + 'allow_destinations = ["127.0.0.1"]\n'
        + listener.format(name="admin", kind="admin")
    )


class Server:
    """A server with a configuration of its own; `at` has the addresses of its listeners, in the order of the file."""

    def __init__(self, binary: str, folder: pathlib.Path):
        path = folder / "netlab.toml"
        path.write_text(configuration(folder))
        self.process = subprocess.Popen([binary, "-q", "--config", str(path)], stdout=subprocess.PIPE, text=True)
        self.at = []
        for line in self.process.stdout:
            if line.startswith("listening "):
                host, port = line.split()[2].rsplit(":", 1)
                self.at.append((host, int(port)))
            if line.strip() == "ready":
                return
        raise SystemExit("the server did not start")

    def resident(self) -> int:
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"RssAnon:\s+(\d+) kB", text)[1]) * 1024

    def heap(self) -> int:
        """What of it is malloc's."""
        text = pathlib.Path(f"/proc/{self.process.pid}/smaps").read_text()
        found = re.search(r"\[heap\]\n(?:.*\n)*?Rss:\s+(\d+) kB", text)
        return int(found[1]) * 1024 if found else 0

    def status(self) -> dict:
        host, port = self.at[-1]
        with urllib.request.urlopen(f"http://{host}:{port}/status.json") as answer:
            return json.load(answer)

    def close(self):
        self.process.kill()
        self.process.wait()


# Whoever answers is ourselves.
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TLS.check_hostname, TLS.verify_mode = False, ssl.CERT_NONE


def connect(to: tuple[str, int], speaks_tls: bool) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(to)
    return TLS.wrap_socket(client) if speaks_tls else client


def request(does: str, kind: str, origin: tuple[str, int]) -> bytes:
    host = f"{origin[0]}:{origin[1]}"
    match does:
        case "send nothing":
            return b""
        case "send half a head":
            return b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "
        case "send half a body":
            head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
            return head + 100_000 * b"x"
    target = f"http://{host}/large" if kind == "proxy" else "/large"
    return f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def settle(measure) -> int:
    """Waits until a figure has not grown or fallen for two seconds, half a minute at most."""
    last, since = measure(), time.monotonic()
    for _ in range(60):
        time.sleep(0.5)
        now = measure()
        if abs(now - last) > MIB:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > 2:
            break
    return measure()


def read_slowly(clients: list[socket.socket]):
    """Some bytes of each, ten times."""
    for _ in range(10):
        for client in clients:
            client.setblocking(False)
            with contextlib.suppress(OSError):
                client.recv(2048)
        time.sleep(0.5)


def burst(binary: str, case: str, count: int, folder: pathlib.Path) -> bool:
    kind, speaks_tls, does = CASES[case]
    server = Server(binary, folder)
    with contextlib.closing(server):
        origin, http, https, proxy, _ = server.at
        to = {("proxy", False): proxy, ("http", False): http, ("http", True): https}[kind, speaks_tls]
        before = server.resident()
        clients = []
        for _ in range(count):
            client = connect(to, speaks_tls)
            client.sendall(request(does, kind, origin))
            clients.append(client)
        if does == "read slowly":
            read_slowly(clients)
        height, status, heap = settle(server.resident), server.status(), server.heap()
        for client in clients:
            client.close()
        after = settle(server.resident)
        kept, heap_after = server.status()["page_bytes_kept"], server.heap()
    left = after - before
    is_fine = left <= POOL_BYTES_MAX + SLACK_BYTES
    print(
        f"{case:12} {count} clients that {does:18} before {before / MIB:6.1f} MiB, at its height {height / MIB:6.1f} "
        f"({status['page_bytes'] / MIB:.1f} in pages, {status.get('bytes_beside_pages', 0) / MIB:.1f} beside, {heap / MIB:.1f} in malloc's heap), after {after / MIB:6.1f} "
        f"({kept / MIB:.1f} in pages kept, {heap_after / MIB:.1f} in the heap){'' if is_fine else '  TOO MUCH'}",
        flush=True,
    )
    return is_fine


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", help="some of: " + ", ".join(CASES))
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--binary", default="target/release/netlab-reactor")
    asked = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "site").mkdir()
        (folder / "site/index.html").write_text("<p>index</p>")
        (folder / "site/large").write_bytes(b"x" * FILE_BYTES)
        subprocess.run(
            f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost "
            f"-keyout {folder}/key.pem -out {folder}/cert.pem".split(), check=True, capture_output=True,
        )
        fine = [burst(asked.binary, case, asked.clients, folder) for case in asked.cases or CASES]
    sys.exit(0 if all(fine) else 1)


if __name__ == "__main__":
    main()
