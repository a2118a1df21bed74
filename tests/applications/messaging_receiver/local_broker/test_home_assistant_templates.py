"""The templates of the configuration, rendered as Home Assistant does it: by Jinja, with what was received as data."""

import contextlib
import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from idlib.local_broker.place import Topics
from idlib.names import IdentityName
from idlib.output import json_line
from messaging_receiver.local_broker.home_assistant import DeviceState, announcement

ALICE: Final = IdentityName("alice._device.example.com")
BOB: Final = IdentityName("bob._device.example.com")
CAROL: Final = IdentityName("carol._device.example.com")
ENTITIES: Final[dict[str, Any]] = json.loads(
    announcement(ALICE, Topics("messenger"), "homeassistant", [BOB], has_others=True).payload()
)["components"]
FROM_BOB: Final = "from-bob-_device-example-com"


def render(key: str, value: str, template: str = "value_template") -> str:
    environment = ImmutableSandboxedEnvironment()
    environment.filters["to_json"] = json.dumps
    variables: dict[str, object] = {"value": value}
    # Home Assistant has no such variable if it is not JSON.
    with contextlib.suppress(ValueError):
        variables["value_json"] = json.loads(value)
    return environment.from_string(ENTITIES[key][template]).render(variables)


def line(sender: IdentityName, content: str | bytes) -> str:
    return json_line(
        *(sender, content),
        identifier="x",
        sent_at=1,
        received_at=2.5,
        sealed="epoch",
        content_type=None if isinstance(content, str) else "image/png",
    )


@given(st.one_of(st.text(), st.binary(), st.sampled_from(["{{ 7 * 7 }}", "{% raw %}", "\"'}}\n{#", "\\u0000", "}}{{"])))
def test_any_message_is_an_event_with_the_members_of_its_object(content: str | bytes) -> None:
    received = line(BOB, content)
    assert json.loads(render(FROM_BOB, received)) == {**json.loads(received), "event_type": "message"}


def test_each_message_is_an_event_of_one_entity() -> None:
    assert render("others", line(BOB, "x")) == ""
    assert json.loads(render("others", line(CAROL, "{{ x }}")))["message"] == "{{ x }}"


@pytest.mark.parametrize("value", ["", "{{ 1 }}", "[1]", "{}", '{"sender": 1}', "null", '"sender"'])
def test_what_is_not_a_message_renders_to_nothing(value: str) -> None:
    assert render(FROM_BOB, value) == render("others", value) == ""


def test_the_diagnostics_are_read_from_the_state() -> None:
    bad = DeviceState("disk: '{{ 1 }}'\n", 3, 4).payload().decode()
    assert [render(key, bad) for key in ("problem", "waiting", "refused")] == ["ON", "3", "4"]
    assert json.loads(render("problem", bad, "json_attributes_template")) == {"problem": "disk: '{{ 1 }}'\n"}
    assert render("problem", DeviceState(None, 0, 0).payload().decode()) == "OFF"
