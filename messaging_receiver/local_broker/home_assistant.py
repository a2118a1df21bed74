"""What Home Assistant is told about this device: a configuration for MQTT discovery, and a state.

The configuration is that of a whole device, which Home Assistant reads since its release 2024.12. Its templates are
constant but for checked names; Home Assistant passes the messages to them as data and never as a template.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from idlib import __version__
from idlib.lists import SenderLists
from idlib.local_broker.place import Topics
from idlib.names import IdentityName
from idlib.output import json_object

# Of names in ALLOWED_SENDERS that have entities of their own; more share one.
MAX_NAMED_SENDERS: Final = 100
EVENT_TYPE: Final = "message"
_QOS: Final = 1
_APPLICATION: Final = "dane-mqtt-messenger"
# No identifier has three hyphens in a row, so that the parts of a unique ID can always be told apart.
_SEPARATOR: Final = "---"
# Renders to nothing, which Home Assistant ignores, for what is not a message.
_EVENT: Final = (
    "{% if value_json is mapping and value_json.sender is stringCONDITION %}"
    f"{{{{ dict(value_json, event_type='{EVENT_TYPE}') | to_json }}}}"
    "{% endif %}"
)


@dataclass(frozen=True, slots=True)
class DeviceState:
    """What Home Assistant shows of a receiver.

    Args:
        problem: What is wrong; None if the receiver is healthy.
        waiting: How many messages are deferred.
        refused: How many messages were refused since the start.
    """

    problem: str | None
    waiting: int
    refused: int

    def payload(self) -> bytes:
        """Return what is published at PREFIX/state: a JSON object."""
        members = {"problem": self.problem, "waiting": self.waiting, "refused": self.refused}
        return json_object({"healthy": self.problem is None, **members}).encode()


@dataclass(frozen=True, slots=True)
class Announcement:
    """A configuration for discovery.

    Args:
        topic: Where it is retained.
        components: The platform of each entity, by the entity's key.
        members: The configuration.
    """

    topic: str
    components: Mapping[str, str]
    members: Mapping[str, object]

    def payload(self, gone: Mapping[str, str] | None = None) -> bytes:
        """Return the configuration as a JSON object.

        Args:
            gone: The platforms of earlier entities, by their keys. An entity with nothing but its platform is removed.
        """
        entities = self.members["components"]
        if gone and isinstance(entities, Mapping):
            removed = {key: {"platform": platform} for key, platform in gone.items() if key not in self.components}
            return json_object({**self.members, "components": {**entities, **removed}}).encode()
        return json_object(self.members).encode()


def identifier_of(name: IdentityName) -> str:
    """Return a name in the characters that Home Assistant allows in an identifier: a-z, 0-9, _ and -.

    A dot becomes a hyphen, and a hyphen two. Two names never have the same identifier: no label starts or ends with a
    hyphen, so that the length of each row of hyphens says what it stands for.

    Args:
        name: The name.
    """
    return name.text.replace("-", "--").replace(".", "-")


def named_senders(lists: SenderLists) -> tuple[tuple[IdentityName, ...], bool]:
    """Return the senders with entities of their own, and whether others may send.

    Args:
        lists: The operator's lists. A name has entities if ALLOWED_SENDERS contains exactly this name.
    """
    if lists.allowed is None:
        return (), True
    exact = sorted({IdentityName(text) for text in lists.allowed.texts if not text.startswith("*")})
    names = [name for name in exact if lists.names_exactly(name)]
    has_patterns = any(text.startswith("*") for text in lists.allowed.texts)
    return tuple(names[:MAX_NAMED_SENDERS]), has_patterns or len(names) > MAX_NAMED_SENDERS


def announcement(
    name: IdentityName, topics: Topics, prefix: str, senders: Sequence[IdentityName], *, has_others: bool
) -> Announcement:
    """Return the configuration of a device.

    Args:
        name: The device's name.
        topics: The topics at the local broker.
        prefix: HOME_ASSISTANT_PREFIX.
        senders: The senders with entities of their own.
        has_others: Whether others may send.
    """
    identifier = f"{_APPLICATION}{_SEPARATOR}{identifier_of(name)}"
    entities: dict[str, dict[str, object]] = {}
    for sender in senders:
        key = identifier_of(sender)
        entities[f"from-{key}"] = _event(f"Message from {sender}", topics.received_from(sender), "")
        entities[f"to-{key}"] = {
            "platform": "notify",
            "name": f"Message to {sender}",
            "command_topic": f"{topics.out}{sender}",
        }
    if has_others:
        listed = ", ".join(f"'{sender}'" for sender in senders)
        condition = f" and value_json.sender not in [{listed}]" if senders else ""
        title = "Message from another sender" if senders else "Message"
        entities["others"] = _event(title, topics.every_in, condition)
    entities |= _diagnostics(topics)
    for key, entity in entities.items():
        entity |= {"unique_id": f"{identifier}{_SEPARATOR}{key}", "qos": _QOS}
    members: dict[str, object] = {
        "device": {
            "identifiers": [identifier],
            "name": str(name),
            "manufacturer": _APPLICATION,
            "model": "receiver",
            "sw_version": __version__,
        },
        "origin": {"name": _APPLICATION, "sw_version": __version__},
        "availability_topic": topics.status,
        "components": entities,
    }
    platforms = {key: str(entity["platform"]) for key, entity in entities.items()}
    return Announcement(f"{prefix}/device/{identifier}/config", platforms, members)


def _event(title: str, topic: str, condition: str) -> dict[str, object]:
    return {
        "platform": "event",
        "name": title,
        "state_topic": topic,
        "event_types": [EVENT_TYPE],
        "value_template": _EVENT.replace("CONDITION", condition),
    }


def _diagnostics(topics: Topics) -> dict[str, dict[str, object]]:
    shared: dict[str, object] = {"state_topic": topics.state, "entity_category": "diagnostic"}
    return {
        "problem": {
            **shared,
            "platform": "binary_sensor",
            "name": "Problem",
            "device_class": "problem",
            "value_template": "{{ 'OFF' if value_json.healthy else 'ON' }}",
            "json_attributes_topic": topics.state,
            "json_attributes_template": "{{ {'problem': value_json.problem} | to_json }}",
        },
        "waiting": {
            **shared,
            "platform": "sensor",
            "name": "Waiting messages",
            "state_class": "measurement",
            "value_template": "{{ value_json.waiting }}",
        },
        "refused": {
            **shared,
            "platform": "sensor",
            "name": "Refused messages",
            "state_class": "total_increasing",
            "value_template": "{{ value_json.refused }}",
        },
    }
