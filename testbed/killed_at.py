"""Runs a program again and again, and kills it by SIGKILL just before its Nth change to the disk or to DNS.

A change is a file that is renamed or removed, or a connection over TCP, which carries a dynamic update. Usage:
`killed_at.py PROGRAM`, which reads lines such as `3 switch`, the number and the arguments, and answers each with the
exit status, negative for a signal. The programs are children of a process that has imported what they need, because
starting Python takes longer than a step.
"""

import os
import runpy
import signal
import socket
import sys
from itertools import count
from pathlib import Path

import messaging_maintenance.publishing
import messaging_maintenance.rotation.steps  # noqa: F401

# Of files that are not in place yet; a program removes them when it ends in another way.
_UNFINISHED = ".idlib-"


def _kill_at(number: int) -> None:
    changes = count(1)

    def look(event: str, arguments: tuple[object, ...]) -> None:
        match event, arguments:
            case "os.rename", _:
                pass
            case "os.remove", (str() | bytes() | os.PathLike() as path, *_):
                if Path(os.fsdecode(path)).name.startswith(_UNFINISHED):
                    return
            case "socket.connect", (socket.socket(type=socket.SOCK_STREAM), *_):
                pass
            case _:
                return
        if next(changes) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


def _main(program: str) -> None:
    for line in sys.stdin:
        number, *arguments = line.split()
        child = os.fork()
        if not child:
            os.dup2(2, 1)
            sys.argv = [program, *arguments]
            _kill_at(int(number))
            runpy.run_path(program, run_name="__main__")
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1])
