"""docs/home.md and the files that it shows: settings, and configurations of Node-RED and Telegraf."""

import json
import re
import tomllib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest

from idlib.names import IdentityName
from idlib.output import json_line
from idlib.settings import load
from tests import documents

PAGE: Final = "docs/home.md"
TEXT: Final = (documents.ROOT / PAGE).read_text()
EXAMPLES: Final = documents.ROOT / "docs/examples"
FLOW: Final[list[dict[str, Any]]] = json.loads((EXAMPLES / "node-red-flow.json").read_text())
TELEGRAF: Final = tomllib.loads((EXAMPLES / "telegraf.conf").read_text())
INPUTS: Final[list[dict[str, Any]]] = TELEGRAF["inputs"]["mqtt_consumer"]
# Port 1883 without TLS, which is what LOCAL_MQTT_URL means on the page.
HOST, PORT = "127.0.0.1", "1883"


@pytest.mark.parametrize("name", ["node-red-flow.json", "telegraf.conf"])
def test_the_page_leads_to_both_files(name: str) -> None:
    assert f"](examples/{name})" in TEXT


def test_the_settings_of_the_page_are_accepted() -> None:
    lines = documents.block(PAGE, ".env").splitlines()
    settings = load({**dict(line.split("=", 1) for line in lines), "CRYPTO_PATH": "/identity"})
    url = settings.local_mqtt_url
    assert url is not None
    assert (url.host, url.user) == ("192.168.1.5", "alice-bridge")
    assert settings.local_mqtt_password_file == Path("/identity/local-password")
    # The user of the access control list, and the file that the command writes.
    assert f"user {url.user}\n" in documents.block(PAGE, "acl")
    assert f"cat > {settings.local_mqtt_password_file}'" in documents.block(PAGE, "the password with Compose")


def test_the_bridge_of_the_page_connects_to_mosquitto_on_the_same_machine() -> None:
    exported = re.search(r"export LOCAL_MQTT_URL=(\S+)", documents.block(PAGE, "the bridge"))
    assert exported
    settings = load(
        {"IDENTITY_NAME": "alice._device.example.com", "CRYPTO_PATH": "/identity", "LOCAL_MQTT_URL": exported[1]}
    )
    url = settings.local_mqtt_url
    assert url is not None
    assert (url.host, str(url.port)) == (HOST, PORT)


def test_the_page_watches_and_sends_below_the_default_prefix() -> None:
    watched = re.search(r"-t '(\S+)'", documents.block(PAGE, "watching"))
    sent = re.search(r"-q 1 -t (\S+) -m '(.*)'", documents.block(PAGE, "sending from home"))
    assert watched
    assert sent
    assert (watched[1], sent[1]) == ("messenger/#", "messenger/out/bob._device.example.com")
    status, received = documents.block(PAGE, "what mosquitto_sub shows").splitlines()
    assert status == "messenger/status online"
    shown, _, left_out = received.partition("…")
    assert f"messenger/in/{ALICE} {received_object(ALICE, 'The kettle is on.')}".startswith(shown)
    assert left_out == "}"


ALICE: Final = "alice._device.example.com"
SENSOR: Final = "sensor._device.example.com"


def received_object(sender: str, content: str | bytes, **details: Any) -> str:
    """Return what the receiver publishes, in the form of OUTPUT_FORMAT=json."""
    usual: dict[str, Any] = {"identifier": "an id", "sent_at": 1800000000, "received_at": 1800000001.5}
    return json_line(IdentityName(sender), content, **usual | {"sealed": "epoch"} | details)


# Node-RED


def nodes(kind: str) -> list[dict[str, Any]]:
    return [node for node in FLOW if node["type"] == kind]


def test_the_flow_has_only_nodes_that_come_with_node_red_and_are_joined() -> None:
    identifiers = [node["id"] for node in FLOW]
    assert len(set(identifiers)) == len(identifiers)
    assert all(re.fullmatch(r"[0-9a-f]{16}", identifier) for identifier in identifiers)
    kinds = {"tab", "mqtt-broker", "mqtt in", "mqtt out", "json", "switch", "debug", "inject"}
    assert {node["type"] for node in FLOW} == kinds
    (tab,) = nodes("tab")
    (broker,) = nodes("mqtt-broker")
    for node in FLOW:
        if node["type"] in {"tab", "mqtt-broker"}:
            continue
        assert node["z"] == tab["id"]
        assert all(target in identifiers for output in node["wires"] for target in output)
        assert node.get("broker", broker["id"]) == broker["id"]


def test_the_flow_connects_to_the_broker_of_the_page_and_keeps_its_session() -> None:
    (broker,) = nodes("mqtt-broker")
    assert (broker["broker"], broker["port"], broker["usetls"]) == (HOST, PORT, False)
    assert broker["clientid"]
    assert broker["cleansession"] is False
    # It is kept for seven days, by MQTT 5.
    assert (broker["protocolVersion"], broker["sessionExpiry"]) == ("5", "604800")
    assert f"*{broker['name']}*" in TEXT
    # A login would be in the file of credentials, which is not exported.
    assert not {"credentials", "user", "password"} & set(broker)


def test_the_flow_reads_and_sends_as_the_page_says() -> None:
    read = {node["topic"]: node for node in nodes("mqtt in")}
    assert set(read) == {"messenger/in/+", "messenger/error"}
    (written,) = nodes("mqtt out")
    assert written["topic"] == "messenger/out/bob._device.example.com"
    assert written["retain"] == "false"
    assert all(node["qos"] == "1" for node in (*read.values(), written))
    (inject,) = nodes("inject")
    assert inject["wires"] == [[written["id"]]]
    # Another topic would take precedence over that of the node that sends.
    assert [one["p"] for one in inject["props"]] == ["payload"]
    for topic in ("messenger/in/+", written["topic"]):
        assert f"`{topic}`" in TEXT


def test_the_flow_tells_senders_apart_by_the_key_of_the_object() -> None:
    (read,) = (node for node in nodes("mqtt in") if node["topic"] == "messenger/in/+")
    (parsed,) = nodes("json")
    (switch,) = nodes("switch")
    assert read["wires"] == [[parsed["id"]]]
    assert parsed["wires"] == [[switch["id"]]]
    _, _, sender = switch["property"].partition(".")
    message = json.loads(received_object(ALICE, "text"))
    assert message[sender] == switch["rules"][0]["v"]
    shown = {node["id"]: node["complete"] for node in nodes("debug")}
    assert [shown[target] for output in switch["wires"] for target in output] == ["payload.message", "payload"]
    assert message[shown[switch["wires"][0][0]].partition(".")[2]] == "text"


# Telegraf. Debian has no package of it, so this reads the configuration as the documentation of its plugins says.

# All members that the tables may have, as far as they are used here.
PLUGIN: Final = {
    *{"servers", "topics", "topic_tag", "qos", "persistent_session", "client_id", "username", "password"},
    *{"data_format", "json_v2"},
}
PARSER: Final = {"measurement_name", "timestamp_path", "timestamp_format", "tag", "field"}
VALUE: Final = {"path", "rename", "type", "optional"}
CONVERSIONS: Final[Mapping[str, type]] = {"float": float, "string": str, "bool": bool}
# RFC 3339 as Go's layouts write it.
RFC_3339: Final = "2006-01-02T15:04:05Z07:00"


def metric(consumer: Mapping[str, Any], payload: str) -> tuple[str, dict[str, str], dict[str, object], datetime]:
    """Return the measurement, tags, fields and time that an input makes of a message.

    Raises:
        ValueError: A value cannot be converted; Telegraf logs that and makes no metric.
    """
    message = json.loads(payload)
    (parser,) = consumer["json_v2"]
    assert parser["timestamp_format"] == RFC_3339
    tags = {one.get("rename", one["path"]): str(message[one["path"]]) for one in parser["tag"]}
    fields = {}
    for one in parser["field"]:
        # null makes no field.
        if (value := message[one["path"]]) is not None:
            fields[one.get("rename", one["path"])] = CONVERSIONS[one["type"]](value)
    return parser["measurement_name"], tags, fields, datetime.fromisoformat(message[parser["timestamp_path"]])


def test_telegraf_knows_each_word_of_the_configuration() -> None:
    assert set(TELEGRAF) == {"inputs"}
    assert set(TELEGRAF["inputs"]) == {"mqtt_consumer"}
    for consumer in INPUTS:
        assert set(consumer) <= PLUGIN
        assert consumer["data_format"] == "json_v2"
        (parser,) = consumer["json_v2"]
        assert set(parser) <= PARSER
        assert all(set(one) <= VALUE for one in (*parser["tag"], *parser["field"]))
        # Tags are always strings.
        assert not any("type" in one for one in parser["tag"])


def test_telegraf_reads_from_the_broker_of_the_page_and_misses_nothing() -> None:
    assert [consumer["topics"] for consumer in INPUTS] == [["messenger/in/+"], [f"messenger/in/{SENSOR}"]]
    for consumer in INPUTS:
        assert consumer["servers"] == [f"tcp://{HOST}:{PORT}"]
        assert (consumer["qos"], consumer["persistent_session"]) == (1, True)
    # With the same client id, one would end the connection of the other.
    assert len({consumer["client_id"] for consumer in INPUTS}) == len(INPUTS)


def test_telegraf_makes_a_metric_of_every_message() -> None:
    name, tags, fields, time = metric(INPUTS[0], received_object(ALICE, "The kettle is on."))
    assert (name, tags) == ("messenger", {"sender": ALICE, "sealed": "epoch"})
    assert fields == {"message": "The kettle is on.", "bound": True}
    assert time.timestamp() == 1800000001.5


def test_telegraf_makes_a_metric_of_a_message_without_a_text_or_a_time_of_sending() -> None:
    picture = received_object(ALICE, b"\xff\xd8", content_type="image/jpeg", identifier=None, sent_at=None)
    assert metric(INPUTS[0], picture)[2] == {"bound": False}


def test_telegraf_reads_the_number_of_the_sensor() -> None:
    name, tags, fields, _ = metric(INPUTS[1], received_object(SENSOR, "21.5"))
    shown = f"{name},{','.join(f'{key}={value}' for key, value in tags.items())} value={fields['value']}\n"
    assert shown == documents.block(PAGE, "a metric")
    with pytest.raises(ValueError, match="could not convert"):
        metric(INPUTS[1], received_object(SENSOR, "warm"))
