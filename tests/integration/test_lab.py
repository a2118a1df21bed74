"""The daemons behave as the other tests take for granted."""

import socket
from pathlib import Path

import pytest

from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.process import DaemonError, free_port
from testbed.lab import BOGUS, SECURE, UNSIGNED, Lab, missing_packages


def _flags(answer: str) -> list[str]:
    return next(line for line in answer.splitlines() if ";; Flags:" in line).split(";")[2].split()[1:]


@pytest.mark.parametrize("where", ["lab", "world"])
def test_a_published_record_is_found_and_authenticated(where: str, request: pytest.FixtureRequest) -> None:
    lab: Lab = request.getfixturevalue(where)
    name = f"fresh-{where}._device.{SECURE}"
    lab.knot.add_tlsa(name, "3 0 0 ABCD")
    answer = lab.ask(name)
    assert "3 0 0 ABCD" in answer
    assert "ad" in _flags(answer)
    lab.knot.remove_tlsa(name)


def test_an_unsigned_zone_is_answered_without_ad(lab: Lab) -> None:
    lab.knot.add_tlsa(f"x.{UNSIGNED}", "3 0 0 ABCD")
    answer = lab.ask(f"x.{UNSIGNED}")
    assert "3 0 0 ABCD" in answer
    assert "ad" not in _flags(answer)


def test_a_zone_whose_key_is_not_the_trusted_one_is_servfail(lab: Lab) -> None:
    lab.knot.add_tlsa(f"x.{BOGUS}", "3 0 0 ABCD")
    assert "status: SERVFAIL" in lab.ask(f"x.{BOGUS}")


def test_missing_daemons_are_reported_with_the_packages_to_install() -> None:
    needed = {"sh": "dash", "no-such-daemon": "daemon-package", "no-such-tool": "tool-package"}
    assert missing_packages(needed) == ["daemon-package", "tool-package"]


def test_dns_over_tls_is_closed(lab: Lab) -> None:
    with socket.socket() as connection:
        assert connection.connect_ex((lab.unbound.host, 853)) != 0


def test_the_error_of_a_daemon_that_cannot_start_has_the_reason(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        broker = Mosquitto(tmp_path, taken.getsockname()[1])
        with pytest.raises(DaemonError, match="Address already in use"):
            broker.start()


def test_a_daemon_is_stopped_when_its_block_fails(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    with pytest.raises(ZeroDivisionError), broker:
        raise ZeroDivisionError
    with socket.socket() as connection:
        assert connection.connect_ex((broker.host, broker.port)) != 0
