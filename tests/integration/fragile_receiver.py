"""The receiver, with workers that certain texts end or stop; test_workers.py starts it."""

import os
import signal

from idlib.program.command_line import run
from messaging_receiver import start
from messaging_receiver.opening import OpenedMessage, Outcome
from messaging_receiver.workers import pool, process

_BATCH_SECONDS = 1.0


class _FragileWorker(process.Worker):
    def _open(self, payload: bytes) -> Outcome:
        outcome = super()._open(payload)
        if isinstance(outcome, OpenedMessage):
            text = outcome.unverified.unverified_content.decode()
            if text.startswith("poison"):
                os.kill(os.getpid(), signal.SIGSEGV)
            if text.startswith("sleeping pill"):
                signal.pause()
        return outcome


if __name__ == "__main__":
    process.Worker = _FragileWorker  # type: ignore[misc]
    pool.BATCH_SECONDS = _BATCH_SECONDS  # type: ignore[misc]
    run(start.main)
