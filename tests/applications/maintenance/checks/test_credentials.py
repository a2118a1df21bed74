import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.name
import pytest

from idlib.settings import Settings, Switch, load
from messaging_maintenance.checks.catalogue import CREDENTIAL_IDS, OPTIONAL_IDS
from messaging_maintenance.checks.credentials import check_credentials
from messaging_maintenance.checks.report import as_json
from messaging_maintenance.checks.result import Item, Status
from testbed.desec.limits import MINIMUM_TTL
from testbed.desec.server import DesecServer
from testbed.desec.tokens import Policy
from testbed.name_server import Server, Zone, over_udp_or_tcp
from tests.applications.maintenance.checks.observations import NAME

DOMAIN = "example.dedyn.io"
DEVICE = f"alice._device.{DOMAIN}"


@pytest.fixture
def desec() -> Iterator[DesecServer]:
    with DesecServer({DOMAIN: MINIMUM_TTL}) as server:
        yield server


@pytest.fixture
def name_server() -> Iterator[Server]:
    """Yield a name server of the zone, which is asked as the resolver, too."""
    zone = Zone(dns.name.from_text(DOMAIN))
    soa = zone.add_text("@", "SOA", f"ns.{DOMAIN}. hostmaster.{DOMAIN}. 7 3600 600 86400 3600")
    zone.add_text("@", "NS", f"ns.{DOMAIN}.")
    zone.add_text("ns", "A", "127.0.0.1")

    def respond(query: dns.message.Message, over_tcp: bool) -> list[bytes]:  # noqa: FBT001
        response = zone.answer(query)
        response.flags |= dns.flags.AA | dns.flags.RA
        if not response.answer:
            response.authority.append(soa)
        return over_udp_or_tcp(response, over_tcp)

    server = Server(respond)
    yield server
    server.close()


@pytest.fixture
def settings(desec: DesecServer, name_server: Server, tmp_path: Path) -> Settings:
    return load(
        {
            "IDENTITY_NAME": DEVICE,
            "APP_UID": str(os.geteuid()),
            "DNS_RESOLVER": str(name_server.address),
            "DNS_SERVER_PORT": str(name_server.address.port),
            "DNS_PUBLISH": "desec",
            "DESEC_URL": desec.url,
            "DESEC_TOKEN_FILE": str(tmp_path / "token"),
        }
    )


def check(settings: Settings, token: str = "", mode: int = 0o600) -> dict[str, Item]:
    """Return what is said about a token, which must never be part of it."""
    path = settings.desec_token_file
    assert path is not None
    if token:
        path.write_text(f"{token}\n")
        path.chmod(mode)
    items = check_credentials(settings)
    assert [item.id for item in items] == list(CREDENTIAL_IDS)
    assert not token or token not in as_json(NAME, items)
    return {item.id: item for item in items}


def test_a_token_that_may_write_the_record_is_accepted_and_changes_nothing(
    settings: Settings, desec: DesecServer
) -> None:
    desec.put(DEVICE, ["3 1 0 ABCD"])
    before = desec.tlsa(DEVICE)
    items = check(settings, desec.token_for(DEVICE))
    assert {item.status for item in items.values()} == {Status.OK}
    assert items["publishing.method"].evidence == "records are published by desec (DNS_PUBLISH)"
    assert desec.tlsa(DEVICE) == before


@pytest.mark.parametrize("may", ["write another name", "write nothing", "nothing, because it is unknown"])
def test_a_token_without_permission_is_a_failure(may: str, settings: Settings, desec: DesecServer) -> None:
    token = {
        "write another name": lambda: desec.token_for(f"bob._device.{DOMAIN}"),
        "write nothing": lambda: desec.add_token(Policy()),
        "nothing, because it is unknown": lambda: "a" * 28,
    }[may]()
    items = check(settings, token)
    assert items["publishing.method"].status is Status.OK
    assert items["publishing.credential"].status is Status.FAIL
    assert items["publishing.credential"].hint


@pytest.mark.parametrize(("epoch_keys", "expected"), [("off", Status.OK), ("on", Status.FAIL)])
def test_with_epoch_keys_the_token_must_also_be_allowed_to_write_their_records(
    epoch_keys: str, expected: Status, settings: Settings, desec: DesecServer
) -> None:
    settings = dataclasses.replace(settings, epoch_keys=Switch(epoch_keys))
    item = check(settings, desec.token_for(DEVICE))["publishing.credential"]
    assert item.status is expected
    assert ("_epoch" in item.evidence + item.hint) is (epoch_keys == "on")
    assert check(settings, desec.epoch_token_for(DEVICE))["publishing.credential"].status is Status.OK


def test_a_token_that_is_missing_is_a_failure(settings: Settings, desec: DesecServer) -> None:
    item = check(settings)["publishing.credential"]
    assert item.status is Status.FAIL
    assert item.evidence.startswith("there is no ")
    assert desec.requests == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_token_that_others_can_read_is_a_failure_and_is_not_sent(
    mode: int, settings: Settings, desec: DesecServer
) -> None:
    item = check(settings, desec.token_for(DEVICE), mode)["publishing.credential"]
    assert item.status is Status.FAIL
    assert f"(mode {mode:04o})" in item.evidence
    assert desec.requests == []


def test_a_setting_that_the_method_needs_is_missing(name_server: Server) -> None:
    environment = {"IDENTITY_NAME": DEVICE, "DNS_RESOLVER": str(name_server.address), "DNS_PUBLISH": "desec"}
    items = check_credentials(load({**environment, "DNS_SERVER_PORT": str(name_server.address.port)}))
    assert [item.status for item in items] == [Status.FAIL, Status.SKIP]
    assert "DESEC_TOKEN_FILE" in items[0].evidence


def test_a_command_is_not_tried(name_server: Server, tmp_path: Path) -> None:
    environment = {
        "IDENTITY_NAME": DEVICE,
        "DNS_RESOLVER": str(name_server.address),
        "DNS_SERVER_PORT": str(name_server.address.port),
        "DNS_PUBLISH": "command",
        "DNS_PUBLISH_COMMAND": f"touch {tmp_path}/run",
    }
    items = {item.id: item for item in check_credentials(load(environment))}
    assert items["publishing.credential"].status is Status.SKIP
    assert "publishing.credential" in OPTIONAL_IDS
    assert not (tmp_path / "run").exists()


def test_without_a_method_no_credential_is_needed() -> None:
    assert {item.status for item in check_credentials(load({"IDENTITY_NAME": DEVICE}))} == {Status.OK}
