"""Uses a spawner as the receiver does, and prints what happens; run by test_spawner.py in a process without threads.

Usage: spawning.py SCENARIO
"""

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from messaging_receiver.workers.frames import Channel, LostPeer
from messaging_receiver.workers.spawner import Spawner, SpawnerError

_STEP_SECONDS = 20.0


def work(channel: Channel) -> None:
    """Answer with facts about the worker's process."""
    try:
        while True:
            (request,) = channel.receive()
            if request == b"crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            if request == b"fail":
                raise RuntimeError("a deliberate error")
            if request == b"hang":
                time.sleep(1000)
            # The descriptor of the listing itself is closed again.
            links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
            open_files = sorted(os.readlink(link) for link in links if os.path.lexists(link))
            channel.send([str(os.getpid()).encode(), "\n".join(open_files).encode()])
    except LostPeer:
        return


def ask(channel: Channel) -> list[bytes]:
    """Return a worker's process number and its open files."""
    channel.send([b"facts"], _STEP_SECONDS)
    return channel.receive(_STEP_SECONDS)


def from_threads(spawner: Spawner) -> None:
    """Start workers while other threads run."""
    numbers: list[bytes] = []
    ends: list[str] = []

    def start() -> None:
        process = spawner.start()
        numbers.append(ask(process.channel)[0])
        ends.append(process.end())

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Printed by threads, lines could run into each other.
    print(*ends, sep="\n")
    print(len(set(numbers)))


def ends(spawner: Spawner) -> None:
    """Show how workers end."""
    for request in (b"crash", b"fail", b"hang"):
        process = spawner.start()
        process.channel.send([request], _STEP_SECONDS)
        try:
            process.channel.receive(0.5 if request == b"hang" else _STEP_SECONDS)
        except LostPeer as lost:
            print("late" if lost.is_late else "lost", process.end())


def files(spawner: Spawner) -> None:
    """Print the open files of a worker, started although this process has more."""
    with open(__file__, encoding="utf-8"):
        other = spawner.start()
        print(ask(spawner.start().channel)[1].decode())
        ask(other.channel)


def without_spawner(spawner: Spawner) -> None:
    """Go on after the process that starts workers was killed."""
    process = spawner.start()
    ask(process.channel)
    os.kill(spawner.pid, signal.SIGKILL)
    try:
        spawner.start()
    except SpawnerError as error:
        print(error)


def no_resources(spawner: Spawner) -> None:
    """Try to start a worker, although there are no resources for it."""
    try:
        spawner.start()
    except OSError as error:
        print(error)


def wait(spawner: Spawner) -> None:
    """Print the numbers of all processes, and wait to be ended; one worker hangs."""
    workers = [spawner.start() for _ in range(2)]
    numbers = [int(ask(worker.channel)[0]) for worker in workers]
    workers[0].channel.send([b"hang"])
    print(os.getpid(), spawner.pid, *numbers, flush=True)
    sys.stdin.read()


SCENARIOS: dict[str, Callable[[Spawner], None]] = {
    "from_threads": from_threads,
    "ends": ends,
    "files": files,
    "without_spawner": without_spawner,
    "no_resources": no_resources,
    "wait": wait,
}


def fork_once() -> None:
    """Let the system refuse every process after the first, as a limit of processes does."""
    forks = [os.fork]

    def limited() -> int:
        if not forks:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return forks.pop()()

    os.fork = limited


if __name__ == "__main__":
    if sys.argv[1] == "no_resources":
        fork_once()
    # An open file that no other process is to keep open.
    with open(__file__, encoding="utf-8"):
        spawner = Spawner(work)
    SCENARIOS[sys.argv[1]](spawner)
    spawner.close()
    print("closed")
