"""Types two passwords at the prompts of `passwd --login FILE ann`, on a terminal of its own.

passwd.py PROGRAM FILE FIRST SECOND: prints what the terminal showed; its exit code is the program's.
"""

import os
import pty
import sys

program, file, first, second = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    os.environ.pop("NETLAB_PASSWORD", None)
    os.execv(program, [program, "passwd", "--login", file, "ann"])
shown = b""
for prompt, answer in ((b"password: ", first), (b"again: ", second)):
    while not shown.endswith(prompt):
        shown += os.read(terminal, 1024)
    os.write(terminal, answer.encode() + b"\n")
try:
    while more := os.read(terminal, 1024):
        shown += more
except OSError:
    pass  # it has ended
print(shown.decode().replace("\r", ""), end="")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
