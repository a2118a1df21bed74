"""A run of new_identity.py that is killed at any step is completed by the next one."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

NAME: Final = "alice._device.example.test"
# Kills the process before its change number KILL_AT of a file.
_PROGRAM: Final = """
import os, signal, sys

changes = {"os.mkdir", "os.rename", "os.link", "os.remove", "os.chmod", "os.chown"}
left = int(os.environ["KILL_AT"])

def count(event, arguments):
    global left
    is_change = event in changes or (event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT)
    if is_change and os.environ["CRYPTO_PATH"] in str(arguments[0]):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
sys.argv = ["new_identity.py"]
from messaging_maintenance.new_identity import main

main()
"""
_NEVER: Final = "1000"


def run(directory: Path, kill_at: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", _PROGRAM],
        env={
            "PATH": os.environ["PATH"],
            "IDENTITY_NAME": NAME,
            "CRYPTO_PATH": str(directory),
            "KEY_TYPE": "p256",
            "APP_UID": str(os.getuid()),
            "KILL_AT": kill_at,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_run_that_is_killed_at_any_step_is_completed_by_the_next(tmp_path: Path) -> None:
    kills, keys_alone = 0, 0
    while True:
        directory = tmp_path / str(kills)
        first = run(directory, str(kills))
        if first.returncode == 0:
            break
        assert first.returncode == -signal.SIGKILL, first.stderr
        key, certificate = directory / f"{NAME}.key.pem", directory / f"{NAME}.crt.pem"
        there = key.read_bytes() if key.exists() else None
        keys_alone += there is not None and not certificate.exists()
        second = run(directory, _NEVER)
        assert second.returncode == 0, second.stderr
        assert f"TLSA record for {NAME}: 3 0 0 " in second.stdout
        assert there in {None, key.read_bytes()}
        # The next write removes what the killed one has left of a file.
        finished = {path.name for path in directory.iterdir() if not path.name.startswith(".idlib-")}
        assert finished == {certificate.name, key.name}
        kills += 1
    assert keys_alone
