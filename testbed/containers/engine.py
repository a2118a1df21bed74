"""The container engine, through its command line."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[2]
# Another client may come before Debian's on PATH, and may be unable to build images.
DOCKER: Final = "/usr/bin/docker" if os.access("/usr/bin/docker", os.X_OK) else shutil.which("docker") or "docker"
_PAUSE_SECONDS: Final = 0.2
_DOWN_ATTEMPTS: Final = 5
_DOWN_PAUSE_SECONDS: Final = 2


def docker(
    *words: str, environment: Mapping[str, str] | None = None, check: bool = True, seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run docker and return how it ended.

    Args:
        words: Its arguments.
        environment: Variables in addition to those of this process.
        check: Whether an exit status other than 0 is a failure.
        seconds: How long it may take.
    """
    done = subprocess.run(
        [DOCKER, *words],
        env={**os.environ, "DOCKER_BUILDKIT": "1", "COMPOSE_PROGRESS": "plain", **(environment or {})},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    if check and done.returncode:
        raise AssertionError(f"docker {' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def take_down(compose: Callable[..., subprocess.CompletedProcess[str]], *words: str) -> None:
    """Run `docker compose down`, again while the engine has not yet released what it removed.

    The engine forgets a stopped container's place in a network a moment after it reports the container as removed;
    until then it refuses to remove the network ("has active endpoints").

    Args:
        compose: Runs docker compose on a project; takes words and `check`, as `docker` does.
        words: From `down` on.
    """
    for _ in range(_DOWN_ATTEMPTS):
        done = compose(*words, check=False)
        if "has active endpoints" not in done.stderr:
            break
        time.sleep(_DOWN_PAUSE_SECONDS)
    assert done.returncode == 0, f"docker compose {' '.join(words)} ended with {done.returncode}:\n{done.stderr}"


def is_there() -> bool:
    """Return whether an engine with Compose answers."""
    try:
        return all(docker(*words, check=False).returncode == 0 for words in (("info",), ("compose", "version")))
    except FileNotFoundError:
        return False


def wait_until(what: str, is_so: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until a condition holds.

    Args:
        what: The condition, for the error message.
        is_so: Called repeatedly.
        seconds: How long it may take.
    """
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(_PAUSE_SECONDS)
