"""The configuration for Home Assistant's MQTT discovery, and the state."""

import json
import re
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.lists import SenderLists
from idlib.local_broker.place import Topics
from idlib.names import IdentityName, NamePatterns
from messaging_receiver.local_broker.home_assistant import (
    MAX_NAMED_SENDERS,
    DeviceState,
    announcement,
    identifier_of,
    named_senders,
)

ALICE: Final = IdentityName("alice._device.example.com")
BOB: Final = IdentityName("bob-2._device.example.com")
TOPICS: Final = Topics("messenger")
# From Home Assistant's documentation: of all entities, and of each platform.
COMMON: Final = {"platform", "name", "unique_id", "qos", "entity_category"}
READING: Final = {"state_topic", "value_template"}
ALLOWED: Final = {
    "event": COMMON | READING | {"event_types"},
    "notify": COMMON | {"command_topic"},
    "sensor": COMMON | READING | {"state_class"},
    "binary_sensor": COMMON | READING | {"device_class", "json_attributes_topic", "json_attributes_template"},
}
REQUIRED: Final = {
    "event": {"state_topic", "event_types"},
    "notify": {"command_topic"},
    "sensor": {"state_topic"},
    "binary_sensor": {"state_topic"},
}
LABELS: Final = st.from_regex(r"[a-z0-9_](?:[a-z0-9_-]{0,6}[a-z0-9_])?", fullmatch=True)
NAMES: Final = st.lists(LABELS, min_size=2, max_size=4).map(lambda labels: IdentityName(".".join(labels)))


def configuration(*senders: IdentityName, has_others: bool = True) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(
        announcement(ALICE, TOPICS, "homeassistant", senders, has_others=has_others).payload()
    )
    return result


def test_the_configuration_names_device_origin_and_availability() -> None:
    members = configuration(BOB)
    assert set(members) == {"device", "origin", "availability_topic", "components"}
    assert members["device"]["name"] == str(ALICE)
    assert members["device"]["identifiers"] == ["dane-mqtt-messenger---alice-_device-example-com"]
    assert members["origin"]["name"] == "dane-mqtt-messenger"
    assert members["availability_topic"] == "messenger/status"


def test_each_entity_has_the_documented_members_of_its_platform() -> None:
    for entity in configuration(BOB)["components"].values():
        platform = entity["platform"]
        assert REQUIRED[platform] | {"platform", "name", "unique_id"} <= set(entity) <= ALLOWED[platform]
        assert entity["qos"] == 1
    kinds = {key: entity["platform"] for key, entity in configuration(BOB)["components"].items()}
    assert kinds == {
        "from-bob--2-_device-example-com": "event",
        "to-bob--2-_device-example-com": "notify",
        "others": "event",
        "problem": "binary_sensor",
        "waiting": "sensor",
        "refused": "sensor",
    }


def test_the_topic_has_only_characters_that_home_assistant_allows() -> None:
    topic = announcement(ALICE, TOPICS, "homeassistant", (), has_others=True).topic
    assert re.fullmatch("homeassistant/device/[a-zA-Z0-9_-]+/config", topic)


def test_messages_are_events_of_their_sender_and_go_to_their_recipient() -> None:
    entities = configuration(BOB, has_others=False)["components"]
    assert "others" not in entities
    assert entities["from-bob--2-_device-example-com"]["state_topic"] == f"messenger/in/{BOB}"
    assert entities["to-bob--2-_device-example-com"]["command_topic"] == f"messenger/out/{BOB}"


def test_the_event_of_other_senders_leaves_out_those_that_have_their_own() -> None:
    assert f"not in ['{BOB}']" in configuration(BOB)["components"]["others"]["value_template"]
    assert "not in" not in configuration()["components"]["others"]["value_template"]


def test_an_entity_that_is_gone_has_nothing_but_its_platform() -> None:
    wanted = announcement(ALICE, TOPICS, "homeassistant", (), has_others=True)
    entities = json.loads(wanted.payload({"from-x": "event", "problem": "binary_sensor"}))["components"]
    assert entities["from-x"] == {"platform": "event"}
    assert len(entities["problem"]) > 1


@given(NAMES, NAMES)
def test_two_names_never_have_the_same_identifiers(first: IdentityName, second: IdentityName) -> None:
    assert (identifier_of(first) == identifier_of(second)) == (first == second)
    assert re.fullmatch("[a-z0-9_-]+", identifier_of(first))
    # Three in a row separate the parts of a unique ID.
    assert not re.search("(?<!-)---(?!-)", identifier_of(first))


@pytest.mark.parametrize(
    ("allowed", "denied", "names", "others"),
    [
        (None, None, [], "others"),
        (["b.a", "a.a", "B.a"], None, ["a.a", "b.a"], "no others"),
        (["b.a", "*.a"], None, ["b.a"], "others"),
        (["b.a", "a.a"], ["b.a"], ["a.a"], "no others"),
    ],
    ids=["everyone", "names", "pattern", "denied"],
)
def test_the_senders_with_entities_are_those_in_allowed_senders(
    allowed: list[str] | None, denied: list[str] | None, names: list[str], others: str
) -> None:
    lists = SenderLists(
        None if denied is None else NamePatterns(tuple(denied)),
        None if allowed is None else NamePatterns(tuple(allowed)),
    )
    found, has_others = named_senders(lists)
    assert ([str(name) for name in found], has_others) == (names, others == "others")


def test_more_senders_share_one_entity() -> None:
    names = tuple(f"d{number}.example" for number in range(MAX_NAMED_SENDERS + 1))
    found, others = named_senders(SenderLists(allowed=NamePatterns(names)))
    assert (len(found), others) == (MAX_NAMED_SENDERS, True)
    assert named_senders(SenderLists(allowed=NamePatterns(names[:-1])))[1] is False


def test_the_state_is_a_json_object() -> None:
    assert json.loads(DeviceState(None, 1, 2).payload()) == {
        "healthy": True,
        "problem": None,
        "waiting": 1,
        "refused": 2,
    }
    assert json.loads(DeviceState("disk: full", 0, 0).payload())["healthy"] is False
