"""Runs the stack from published images: `python -m testbed.containers.pulled_stack PREFIX TAG PLATFORM`.

Each service runs once, and the device sends a message to itself. On a processor of another kind the engine emulates the
platform, which takes minutes: qemu-user-static and binfmt-support must be installed.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final, Self

from testbed.containers.engine import docker
from testbed.containers.stack import FILES, SERVICES, SUBSCRIBED, Stack

_PATIENCE_SECONDS: Final = 600
_COMMAND_SECONDS: Final = 900
_USAGE: Final = "usage: python -m testbed.containers.pulled_stack PREFIX TAG PLATFORM, such as linux/arm/v7"


class PulledStack(Stack):
    """One device whose images are pulled by the `with` statement; only the small Internet around it is built.

    Args:
        prefix: The images' names before the last slash, with the address of the registry.
        tag: Their tag.
        platform: Which variant of them, such as `linux/arm/v7`.
    """

    files = (*FILES, "tests/containers/platform.yml")

    def __init__(self, prefix: str, tag: str, platform: str) -> None:
        super().__init__(3, _PATIENCE_SECONDS)
        self._prefix, self._tag = prefix, tag
        self._environment |= {"IMAGE_PREFIX": prefix, "IMAGE_TAG": tag, "STACK_PLATFORM": platform}

    def __enter__(self) -> Self:
        try:
            self.compose("build", "internet", "broker")
            self.compose("pull", *SERVICES)
        except BaseException:
            self._remove()
            raise
        return self

    def compose(
        self, *words: str, check: bool = True, seconds: float = _COMMAND_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run docker compose on the stack; it may take longer than on other stacks."""
        return super().compose(*words, check=check, seconds=seconds)

    def image(self, service: str) -> str:
        """Return the name of a service's image."""
        return f"{self._prefix}/{service}:{self._tag}"


def main(arguments: list[str]) -> int:
    """Print how long each step took, and return the exit status."""
    if len(arguments) != 3:
        print(_USAGE, file=sys.stderr)
        return 2
    began = time.monotonic()
    with PulledStack(*arguments) as stack:
        _report("pulled", began)
        for service in SERVICES:
            shown = "{{.Os}}/{{.Architecture}}/{{.Variant}} {{.Size}}"
            print(f"  {service}: {docker('image', 'inspect', '--format', shown, stack.image(service)).stdout.strip()}")
        _timed("all services started", stack.up)
        _timed("key and certificate created", lambda: stack.run("maintenance", "./create_selfsigned_id.py"))
        _timed("record published", lambda: stack.publish(stack.run("maintenance", "./generate_tlsa.py").stdout))
        _timed("receiver subscribed", lambda: stack.wait_for_line("messaging_receiver", SUBSCRIBED))
        _timed("a message sent and printed", lambda: stack.send("emulated"))
        for service in SERVICES:
            stack.wait_until_healthy(service)
            machine = stack.exec(service, "uname", "-m").stdout.strip()
            print(f"  {service}: healthy on {machine}, started {stack.inspect(service)['RestartCount'] + 1} times")
    return 0


def _timed(what: str, step: Callable[[], object]) -> None:
    began = time.monotonic()
    step()
    _report(what, began)


def _report(what: str, began: float) -> None:
    print(f"{time.monotonic() - began:6.1f} s  {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
