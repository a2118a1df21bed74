"""What is shown of the services, from what systemctl prints."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dane_messenger.service.status import Service, read_services

# As systemd 252 prints it.
RUNNING = """\
Id=messenger-receiver@a-b._device.example.com.service
LoadState=loaded
ActiveState=active
SubState=running
Result=success
ExecMainStatus=0
NRestarts=0
StatusText=ok: connected, subscribed, threads moving, own record in DNS
"""


def service(**changes: str) -> Service:
    properties = dict(line.split("=", 1) for line in RUNNING.splitlines())
    return Service.from_properties(properties | changes)


def test_a_service_that_runs_shows_its_health() -> None:
    (one,) = read_services(RUNNING)
    assert one == service()
    assert one.is_healthy
    assert one.is_installed
    assert str(one) == (
        "messenger-receiver@a-b._device.example.com.service: active (running): ok: connected, subscribed, threads"
        " moving, own record in DNS"
    )


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"StatusText": "own record is not in DNS yet"}, "active (running): own record is not in DNS yet"),
        ({"StatusText": ""}, "active (running): its health is not known yet"),
        ({"ActiveState": "inactive", "SubState": "dead", "StatusText": ""}, "inactive (dead)"),
        (
            {"ActiveState": "failed", "SubState": "failed", "Result": "exit-code", "ExecMainStatus": "64"},
            "failed (failed): exit-code, status 64; see journalctl",
        ),
        (
            {
                "ActiveState": "activating",
                "SubState": "auto-restart",
                "Result": "watchdog",
                "ExecMainStatus": "9",
                "NRestarts": "3",
            },
            "activating (auto-restart): watchdog, status 9, started again 3 times; see journalctl",
        ),
    ],
)
def test_a_service_that_is_not_healthy_shows_why(changes: dict[str, str], shown: str) -> None:
    one = service(**changes)
    assert not one.is_healthy
    assert str(one).endswith(f".service: {shown}")


def test_units_are_told_apart() -> None:
    services = read_services(f"{RUNNING}\n{RUNNING.replace('receiver', 'sender')}")
    assert [one.unit.partition("@")[0] for one in services] == ["messenger-receiver", "messenger-sender"]


def test_a_unit_without_a_file_is_not_installed() -> None:
    assert not service(LoadState="not-found").is_installed


def test_a_status_with_an_equals_sign_is_shown_whole() -> None:
    (one,) = read_services(RUNNING.replace("ok: connected", "a=b=c"))
    assert one.health.startswith("a=b=c")


@given(st.text(max_size=400))
def test_any_output_can_be_read(text: str) -> None:
    for one in read_services(text):
        assert isinstance(str(one), str)
