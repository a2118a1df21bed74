"""A registry on the loopback interface, to push images to and to pull them from."""

import os
import urllib.request
from types import TracebackType
from typing import Final, Self

from testbed.containers.base_images import BASE_IMAGES
from testbed.containers.engine import docker, wait_until

_DIRECTORY: Final = "tests/containers/registry"
_BUILD_SECONDS: Final = 300
_PUSH_SECONDS: Final = 120


class LocalRegistry:
    """Debian's docker-registry in a container: started by the `with` statement, and removed at its end."""

    def __init__(self) -> None:
        self._name = f"registry-test-{os.getpid()}"
        self.address = ""

    def __enter__(self) -> Self:
        options = (
            "--file",
            f"{_DIRECTORY}/Containerfile",
            "--build-arg",
            f"DEBIAN_IMAGE={BASE_IMAGES['DEBIAN_IMAGE']}",
        )
        docker("build", "--tag", self._name, *options, _DIRECTORY, seconds=_BUILD_SECONDS)
        try:
            docker("run", "--detach", "--name", self._name, "--publish", "127.0.0.1::5000", self._name)
            self.address = docker("port", self._name, "5000/tcp").stdout.strip()
            wait_until("the registry answers", self._answers)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._remove()

    def push(self, image: str, name: str) -> str:
        """Push an image of the engine, and return under which name it can be pulled; the engine forgets that name.

        Args:
            image: The image's name in the engine.
            name: Its name and tag in the registry.
        """
        address = f"{self.address}/{name}"
        docker("tag", image, address)
        docker("push", address, seconds=_PUSH_SECONDS)
        docker("image", "rm", address)
        return address

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/v2/", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def _remove(self) -> None:
        docker("rm", "--force", "--volumes", self._name)
        docker("image", "rm", "--force", self._name)
