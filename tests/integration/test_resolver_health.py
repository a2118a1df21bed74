"""The health check of the shipped resolver, in a network with a separate DNS root."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from testbed.daemons.knot import Knot, Zone
from testbed.daemons.namespace import Namespace
from testbed.daemons.unbound import Unbound
from testbed.lab import another_key, wait_until

_HEALTH: Final = Path(__file__).parents[2] / "resolver/health.sh"
_ROOT: Final = ""
_AUTHORITY_PORT: Final = 5300
_NOBODY_S_PORT: Final = 5301


@dataclass(frozen=True)
class _Internet:
    """A network whose only name server has the root."""

    namespace: Namespace
    knot: Knot
    directory: Path

    def resolver(self, anchor: str, *, port: int = _AUTHORITY_PORT, extra: str = "") -> Unbound:
        """Return the resolver of the network, not started."""
        return Unbound(self.directory, {_ROOT: port}, [anchor], 53, namespace=self.namespace, extra=extra)

    def health(self, clock: str | None = None) -> tuple[int, str]:
        """Return the status and the output of the health check.

        Args:
            clock: What `date` shows; None for the time.
        """
        commands = self.directory / "commands"
        commands.mkdir(exist_ok=True)
        if clock:
            (commands / "date").write_text(f'#!/bin/sh\nexec /bin/date --date "{clock}" "$@"\n')
            (commands / "date").chmod(0o755)
        done = subprocess.run(
            [*self.namespace.entrance, "env", f"PATH={commands}:/usr/sbin:/usr/bin:/sbin:/bin", "bash", _HEALTH],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert done.stderr == ""
        assert len(done.stdout.splitlines()) == 1
        assert len(done.stdout) <= 100
        return done.returncode, done.stdout.rstrip()


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    with Namespace(tmp_path_factory.mktemp("namespace")) as opened:
        yield opened


@pytest.fixture(scope="module")
def knot(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knot]:
    directory = tmp_path_factory.mktemp("root")
    with Knot(directory, [Zone(_ROOT)], _AUTHORITY_PORT, namespace=namespace) as running:
        yield running


@pytest.fixture
def internet(namespace: Namespace, knot: Knot, tmp_path: Path) -> _Internet:
    return _Internet(namespace, knot, tmp_path)


def test_it_is_healthy_if_answers_are_validated(internet: _Internet) -> None:
    with internet.resolver(internet.knot.ds(_ROOT)):
        assert internet.health() == (0, "ok: answers are validated")


def test_it_reports_a_wrong_root_key(internet: _Internet) -> None:
    with internet.resolver(another_key(internet.knot.ds(_ROOT))):
        assert internet.health() == (1, "error 2: the root key does not fit: update the image")


@pytest.mark.parametrize("clock", ["2030-01-01 00:00", "2020-01-01 00:00"])
def test_it_reports_a_wrong_clock(internet: _Internet, clock: str) -> None:
    override = f'server:\n    val-override-date: "{clock[:4]}0101000000"\n'
    with internet.resolver(internet.knot.ds(_ROOT), extra=override):
        assert internet.health(clock) == (1, f"error 2: the clock is wrong: it shows {clock} UTC")


def test_it_reports_that_no_name_server_can_be_reached(internet: _Internet) -> None:
    with internet.resolver(internet.knot.ds(_ROOT), port=_NOBODY_S_PORT):
        assert internet.health()[0] == 1
        # Unbound tries for longer than the check waits before it gives up.
        wait_until(
            lambda: internet.health() == (1, "error 2: is port 53 to the Internet open?"), "word of the network", 60
        )


def test_it_reports_that_answers_are_not_validated(internet: _Internet) -> None:
    with internet.resolver(internet.knot.ds(_ROOT), extra='server:\n    module-config: "iterator"\n'):
        assert internet.health() == (1, "the answer is not validated")


def test_it_reports_that_the_resolver_does_not_answer(internet: _Internet) -> None:
    status, said = internet.health()
    assert (status, said) == (1, "no answer: has it just been started, or is the Internet out of reach?")
