"""docs/limits.md: each of its numbers matches the code, and it has every limit.

tests/docs/limits.txt says which constant of the code, or which setting, each limit is.
"""

import argparse
import ast
import re
import runpy
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from idlib.certificates import LIFETIME
from idlib.envelope import Binding, seal
from idlib.errors import Reason
from idlib.keys import generate_private_key
from idlib.names import IdentityName
from idlib.settings import VARIABLES, KeyType

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("dane_messenger", "idlib", "messaging_maintenance", "messaging_receiver", "messaging_sender")
DOCUMENT: Final = (ROOT / "docs" / "limits.md").read_text()
ROW: Final = re.compile(r"\| (.+?) \| ([0-9].*?) \| (?:.* )?\|")
UNITS: Final = {"minute": 60, "hour": 3600, "day": 24 * 3600}
A_BOUND: Final = re.compile(r"MAX|MIN_|LONGEST|SHORTEST|SECONDS|EARLIEST|WORKERS|_SIZE$|PAYLOAD|RSA_BITS|LOOKUPS_OF")
# Intervals of loops, values that are only names in the code, and limits in other documents.
NO_BOUND_OF_A_USER: Final = frozenset(
    {
        "idlib/transport/connection.py LOOP_SECONDS",
        "idlib/transport/subscription.py _LOOP_SECONDS",
        "idlib/transport/inquiry.py _SHORT_LOOP_SECONDS",
        "idlib/transport/connection.py _SHORT_LOOP_SECONDS",
        "idlib/storage/pages.py _MAX_COLUMNS",
        "idlib/storage/salvage.py _MAX_SAME_SECOND",
        "idlib/storage/lock_file.py _PAUSE_SECONDS",
        "idlib/storage/postgresql/connection.py _OUTCOME_PAUSE_SECONDS",
        "idlib/storage/postgresql/connection.py _CLOSE_SECONDS",
        "idlib/database_time.py _MAX_ANSWER_SECONDS",
        "idlib/storage/postgresql/sender_leases.py _END_SECONDS",
        "messaging_receiver/group/membership.py _END_SECONDS",
        "idlib/storage/postgresql/leases.py _LONGEST_PAUSE_SECONDS",
        "idlib/storage/postgresql/waiting.py _TIDYING_SECONDS",
        "idlib/storage/postgresql/waiting.py _FORGETTING_SECONDS",
        "idlib/storage/postgresql/waiting.py _PAUSE_SECONDS",
        "messaging_receiver/adoption.py _PAUSE_SECONDS",
        "messaging_receiver/holding.py HELD_AGAIN_SECONDS",
        "messaging_receiver/adoption.py _DROPPING_SECONDS",
        "messaging_receiver/state.py _MAX_CLIENT_ID_BYTES",
        "idlib/transport/packets.py MAX_REMAINING_LENGTH",
        "idlib/transport/packets.py MAX_PACKET_BYTES",
        "idlib/transport/packets.py _MAX_VARIABLE_BYTES",
        "idlib/transport/websocket.py _MAX_SHOWN",
        "idlib/settings/addresses.py _MAX_HOST_CHARACTERS",
        "idlib/transport/session.py _DEFAULT_MAXIMUM_QOS",
        "idlib/keys/locking.py _LOCK_PAUSE_SECONDS",
        "idlib/system/uninterrupted.py _LONGEST_DELAY_SECONDS",
        "idlib/system/update_lock.py _PAUSE_SECONDS",
        "messaging_receiver/sinks/bridging.py _POLL_SECONDS",
        "messaging_receiver/local_broker/connection.py _LOOP_SECONDS",
        "messaging_receiver/local_broker/home_assistant_service.py _LOOK_SECONDS",
        "messaging_receiver/local_broker/outgoing.py _IDLE_SECONDS",
        "messaging_receiver/local_broker/outgoing.py _RECONNECTING_SECONDS",
        "messaging_receiver/local_broker/outgoing.py _MAX_SHOWN",
        "messaging_receiver/local_broker/outgoing.py _WATCH_SECONDS",
        "messaging_sender/outbox_places.py LOOK_SECONDS",
        "messaging_sender/application.py _POLL_SECONDS",
        "messaging_sender/several_recipients.py _POLL_SECONDS",
        "messaging_sender/outbox_sender.py _POLL_SECONDS",
        "messaging_sender/receipt_listener.py _PAUSE_SECONDS",
        "messaging_sender/interruptible_input.py _POLL_MILLISECONDS",
        "idlib/metrics/server.py _PAUSE_SECONDS",
        "idlib/system/failure_log.py _MAX_FACTS",
        "idlib/storage/forgetting.py _AGAIN_SECONDS",
        "idlib/storage/replay.py _LONG_SECONDS",
        "idlib/storage/replay.py _SHORT_SECONDS",
        "messaging_receiver/standard_output.py _POLL_MILLISECONDS",
        "idlib/transport/session.py _DEFAULT_RECEIVE_MAXIMUM",
        "messaging_receiver/supervision.py _UPKEEP_SECONDS",
        "messaging_receiver/supervision.py _TIDYING_SECONDS",
        "messaging_receiver/supervision.py _PAUSE_SECONDS",
        "messaging_receiver/lookups.py _IDLE_SECONDS",
        "messaging_receiver/lookups.py _MAX_FAILED_DOMAINS",
        "idlib/timekeeping.py _SYNCHRONIZATION_SECONDS",
        "messaging_receiver/deferral.py _ABSENCE_SECONDS",
        "messaging_receiver/standard_output.py _PORTION_BYTES",
        "idlib/keys/paths.py _LONGEST_SUFFIX",
        "idlib/keys/reading.py _MAX_NAMES_SHOWN",
        "idlib/keys/paths.py _MAX_FILE_NAME_BYTES",
        "idlib/keys/creation.py _RSA_BITS",
        "idlib/certificates.py _MAX_CHARACTERS",
        "idlib/discovery/messages.py _MAX_TTL",
        "idlib/publishing/desec_answer.py _MAX_TTL",
        "idlib/publishing/name_servers.py _MAX_AT_ONCE",
        "idlib/publishing/dynamic_update.py _PAUSE_SECONDS",
        "messaging_maintenance/checks/epochs.py _DAY_SECONDS",
        "messaging_maintenance/checks/epochs.py _WARN_SECONDS",
        "messaging_maintenance/checks/epochs.py _FAIL_SECONDS",
        "messaging_maintenance/epoch_marking.py _LONGEST_WAIT_SECONDS",
        "messaging_maintenance/epoch_following.py _RECEIVER_SECONDS",
        "messaging_maintenance/epoch_following.py _PAUSE_SECONDS",
        "messaging_maintenance/epoch_progress.py _MAX_TTL",
        "messaging_receiver/epoch_plan.py WEEK_SECONDS",
        "messaging_receiver/epoch_threads.py _LOOK_SECONDS",
        "messaging_receiver/epoch_threads.py _POLL_SECONDS",
        "messaging_receiver/epoch_plan.py _DAY_SECONDS",
        "messaging_receiver/running_time.py _SECONDS",
        "messaging_maintenance/application.py _MAX_SPEED_DIGITS",
        "messaging_maintenance/application.py _SHORTEST_PAUSE_SECONDS",
        "messaging_maintenance/new_identity.py _PAUSE_SECONDS",
        "idlib/system/file_lock.py _PAUSE_SECONDS",
        "messaging_maintenance/rotation/state.py _MAX_TTL",
        "messaging_maintenance/health.py _DAY_SECONDS",
        "messaging_maintenance/watch.py _DAY_SECONDS",
        "messaging_maintenance/checks/broker.py _MAX_HEARD",
        "messaging_maintenance/checks/chain.py _CLOCK_TOLERANCE_SECONDS",
        "messaging_maintenance/checks/observation.py _MAX_OWNERS",
        "messaging_maintenance/checks/report.py _MAX_CHARACTERS",
        "messaging_maintenance/checks/resolver.py _UDP_PAYLOAD",
        "messaging_maintenance/checks/running.py _MAX_AT_ONCE",
        "messaging_receiver/stage.py POLL_SECONDS",
        "messaging_receiver/sinks/confirming.py _POLL_SECONDS",
        "messaging_receiver/sinks/running.py PAUSES_SECONDS",
        "idlib/system/user_command.py _POLL_SECONDS",
        "messaging_receiver/workers/spawner.py _POLL_SECONDS",
        "messaging_receiver/own_identity.py _POLL_SECONDS",
        "messaging_receiver/own_epochs.py _POLL_SECONDS",
        "messaging_receiver/health.py _MAX_SOCKET_PATH_OCTETS",
        "messaging_receiver/health.py _PAUSE_SECONDS",
        "messaging_receiver/service_notices.py _POLL_SECONDS",
        "messaging_sender/application.py _FIRST_STATUS_SECONDS",
        "idlib/system/service_manager.py _MAX_ADDRESS_BYTES",
        "idlib/system/service_manager.py _MICROSECONDS",
        "idlib/system/service_manager.py _SENDING_SECONDS",
        "dane_messenger/service/written_files.py _MAX_BYTES",
    }
)


def sections(text: str) -> Iterator[tuple[str, str]]:
    """Yield each line that is not a heading, with the heading above it."""
    heading = ""
    for line in text.splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        elif heading:
            yield heading, line


# The number of each limit and its place in the code, by its section and its text.
SHOWN: Final = [((heading, row[1]), row[2]) for heading, line in sections(DOCUMENT) if (row := ROW.fullmatch(line))]
PLACES: Final = [
    ((heading, words), place)
    for heading, line in sections((ROOT / "tests" / "docs" / "limits.txt").read_text())
    for place, _, words in [line.partition(" | ")]
    if words
]


def number(limit: str) -> float | range:
    """Return what a limit says in words: a number in the smallest unit, or a range of bits."""
    if span := re.fullmatch(r"(\d+) to (\d+) bits", limit):
        return range(int(span[1]), int(span[2]) + 1)
    value, _, unit = limit.partition(" ")
    return float(value) * UNITS.get(unit.removesuffix("s"), 1)


def constant(place: str) -> object:
    file, _, name = place.partition(" ")
    if not name:
        return int(next(variable.default or "" for variable in VARIABLES if variable.name == place))
    return runpy.run_path(str(ROOT / file))[name]


def test_each_limit_has_its_place_in_the_code() -> None:
    assert len(dict(SHOWN)) == len(SHOWN)
    assert [limit for limit, _ in PLACES] == [limit for limit, _ in SHOWN]
    assert len(SHOWN) == len(re.findall(r"^\| ", DOCUMENT, re.MULTILINE)) - DOCUMENT.count("| what | limit |")


@pytest.mark.parametrize(("limit", "place"), PLACES, ids=[place for _, place in PLACES])
def test_a_limit_matches_the_code(limit: tuple[str, str], place: str) -> None:
    assert constant(place) == number(dict(SHOWN)[limit])


def test_a_limit_that_is_a_setting_names_it() -> None:
    settings = [(limit, place) for limit, place in PLACES if " " not in place]
    assert len(settings) >= 2
    for (_, words), place in settings:
        assert place in words


def test_the_reason_codes_exist() -> None:
    assert set(re.findall(r"refused `([a-z-]+)`", DOCUMENT)) <= set(Reason)


def test_the_senders_options_accept_the_documented_range() -> None:
    said = re.search(r"--expires` takes 1 to (\d+) seconds, `--timeout` up to (\d+)", DOCUMENT)
    assert said
    module = runpy.run_path(str(ROOT / "messaging_sender/send_message.py"))
    for option, most in (("_lifetime", int(said[1])), ("_seconds", int(said[2]))):
        assert module[option](str(most)) == most
        for bad in ("0", str(most + 1)):
            with pytest.raises(argparse.ArgumentTypeError):
                module[option](bad)


def test_the_largest_text_still_fits() -> None:
    octets = re.search(r"A text of (\d+) bytes still fits", DOCUMENT)
    assert octets
    key = generate_private_key(KeyType.RSA2048)
    alice, bob = IdentityName("alice._device.example.com"), IdentityName("bob._device.example.com")
    binding = Binding.new(bob, 1_800_000_000, 3600)
    text = "x" * int(octets[1])
    message = seal(text, sender=alice, signing_key=key, recipient=bob, encryption_key=key.public, binding=binding)
    assert 0.99 * 65536 < len(message) <= 65536


def bounds() -> Iterator[str]:
    for directory in PACKAGES:
        for path in (ROOT / directory).rglob("*.py"):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    is_number = not isinstance(node.value, ast.Dict | ast.Set | ast.Tuple)
                    if is_number and A_BOUND.search(node.target.id) and "Final" in ast.unparse(node.annotation):
                        yield f"{path.relative_to(ROOT)} {node.target.id}"


def test_every_limit_of_the_code_is_documented() -> None:
    named = {place for _, place in PLACES} | NO_BOUND_OF_A_USER
    assert sorted(set(bounds()) - named) == []


def test_the_lifetime_of_certificates_matches_the_code() -> None:
    days = re.search(r"A new certificate is valid for (\d+) days", DOCUMENT)
    assert days
    assert timedelta(days=int(days[1])) == LIFETIME
