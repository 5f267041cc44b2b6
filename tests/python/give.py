"""Starts a program with sockets that it is given, as man 3 sd_listen_fds has it.

give.py [--keep] [--names A:B] SOCKET... -- PROGRAM ARGUMENT...

SOCKET is tcp, udp, connected (a stream that does not listen) or unix:PATH. With --keep the sockets
stay open here, too: "at ADDRESS" is printed for each, the program runs until it is told to end, and
again after each line of standard input, which is answered with "again"."""

import ctypes
import os
import signal
import socket
import sys

FIRST = 3


def opened(spec):
    if spec == "udp":
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.bind(("127.0.0.1", 0))
        return one
    if spec.startswith("unix:"):
        one = socket.socket(socket.AF_UNIX)
        one.bind(spec.removeprefix("unix:"))
    else:
        one = socket.socket()
        one.bind(("127.0.0.1", 0))
    one.listen(4096)
    if spec == "connected":
        return socket.create_connection(one.getsockname())
    return one


def main():
    split = sys.argv.index("--")
    options, command = sys.argv[1:split], sys.argv[split + 1 :]
    keep = "--keep" in options
    if keep:
        options.remove("--keep")
    names = None
    if options[0] == "--names":
        names = options[1]
        options = options[2:]
    sockets = [opened(spec) for spec in options]

    def give():
        # Far away first, so that none overwrites another one.
        high = [os.dup2(one.fileno(), 100 + place) for place, one in enumerate(sockets)]
        for place, number in enumerate(high):
            os.dup2(number, FIRST + place)
            os.close(number)
        os.environ["LISTEN_PID"] = str(os.getpid())
        os.environ["LISTEN_FDS"] = str(len(sockets))
        if names is not None:
            os.environ["LISTEN_FDNAMES"] = names
        os.execv(command[0], command)

    if not keep:
        give()
    for one in sockets:
        print("at", one.getsockname(), flush=True)
    while True:
        # Of its own, since our standard output tells of other things.
        child = os.fork()
        if child == 0:
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it ends with this one
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            give()
        is_over = not sys.stdin.readline()
        os.kill(child, signal.SIGTERM)
        status = os.waitpid(child, 0)[1]
        assert status == 0, status
        if is_over:
            return
        print("again", flush=True)


main()
