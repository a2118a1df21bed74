"""A shell that runs the commands of the documents."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from testbed.containers.engine import DOCKER, REPOSITORY
from testbed.containers.scaled_stack import ScaledStack
from tests import documents


class Shell:
    """A shell in which the documents' commands use a stack or lab of the tests.

    Args:
        environment: The variables with which Compose selects it.
        directory: Where it is.
    """

    def __init__(self, environment: Mapping[str, str], directory: Path = REPOSITORY) -> None:
        # The engine's own client must come first on PATH.
        path = f"{Path(DOCKER).parent}:{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path, "DOCKER_BUILDKIT": "1", **environment}
        self._directory = directory

    def compose(self, *words: str, check: bool = True, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run docker compose as the commands do; arguments as those of `engine.docker`."""
        done = subprocess.run(
            [DOCKER, "compose", *words],
            env=self._environment,
            cwd=self._directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done

    def run(self, document: str, mark: str) -> str:
        """Run the commands below a mark and return what they print."""
        # `docker compose exec` and `run` need a terminal by default, which a test does not have.
        commands = re.sub(r"compose (.*?)(exec|run --rm) ", r"compose \1\2 -T ", documents.block(document, mark))
        # A reader's engine pulls the base images; the engine of the tests has them already.
        commands = commands.replace(
            "-f docker-compose.lab.yml", "-f docker-compose.lab.yml -f tests/containers/lab_images.yml"
        )
        # Their network has a name server, and the engine need not pull the images of broker and database.
        commands = commands.replace(
            "-f docker-compose.scale.yml", " ".join(f"-f {file}" for file in ScaledStack.files[1:])
        )
        done = subprocess.run(
            ["bash", "-euc", commands],
            env=self._environment,
            cwd=self._directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
