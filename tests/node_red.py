"""`python -m tests.node_red [NODE_RED]` runs the flow of docs/home.md in Node-RED, with a broker at home.

NODE_RED is its command; without it, npm installs Node-RED into a temporary directory, which takes a minute and 120 MB.
That is why no other test runs it; tests/docs/test_home.py checks the flow itself.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from idlib.names import IdentityName
from idlib.output import json_line
from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.process import LOOPBACK, free_port
from testbed.lab import wait_until
from testbed.programs import Program
from tests.documents import ROOT

FLOW: Final = ROOT / "docs/examples/node-red-flow.json"
_PATIENCE_SECONDS: Final = 60.0


def main() -> None:
    """Run the flow, and check what it shows and sends."""
    with tempfile.TemporaryDirectory(prefix="node-red-") as name:
        directory = Path(name)
        command = sys.argv[1] if len(sys.argv) > 1 else _install(directory / "installed")
        (directory / "mosquitto").mkdir()
        with Mosquitto(directory / "mosquitto") as broker:
            _run(command, directory, broker)
    print("Node-RED ran the flow: it showed what was received, and sent what its button sends.")


def _install(directory: Path) -> str:
    directory.mkdir()
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "node-red"], cwd=directory, check=True)
    return str(directory / "node_modules/.bin/node-red")


def _run(command: str, directory: Path, broker: Mosquitto) -> None:
    heard: list[tuple[str, bytes]] = []
    client = Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda _client, _data, message: _hear(heard, message)
    client.connect(broker.host, broker.port)
    client.subscribe("messenger/out/+", qos=1)
    client.loop_start()
    port = free_port()
    (directory / "flow.json").write_text(json.dumps(_adapted(json.loads(FLOW.read_text()), broker)))
    # The editor is not used, so nothing but this machine may reach it.
    (directory / "settings.js").write_text(
        f"module.exports = {{uiHost: '{LOOPBACK}', uiPort: {port}, flowFile: '{directory}/flow.json'}};"
    )
    arguments = ["--userDir", str(directory / "user"), "--settings", str(directory / "settings.js")]
    (directory / "user").mkdir()
    with Program([command, *arguments], {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(directory)}) as node_red:
        node_red.wait_for_message("Connected to broker", _PATIENCE_SECONDS)
        # Its subscription follows at once.
        time.sleep(1)
        for sender, text in (("alice._device.example.com", "from alice"), ("carol._device.example.com", "from carol")):
            client.publish(f"messenger/in/{sender}", _object(sender, text), qos=1)
        node_red.wait_for_message("[debug:From Alice]", _PATIENCE_SECONDS)
        node_red.wait_for_message("[debug:From others]", _PATIENCE_SECONDS)
        shown = "\n".join(node_red.stdout)
        assert "from alice" in shown, shown
        assert "sender: 'carol._device.example.com'" in shown, shown
        client.publish("messenger/error", "why", qos=1)
        node_red.wait_for_message("[debug:Problems]", _PATIENCE_SECONDS)
        wait_until(lambda: bool(heard), "message of Node-RED's button", _PATIENCE_SECONDS)
        assert heard == [("messenger/out/bob._device.example.com", b"The kettle is on.")], heard
        assert "[error]" not in shown, shown
    client.disconnect()
    client.loop_stop()


def _hear(heard: list[tuple[str, bytes]], message: MQTTMessage) -> None:
    heard.append((message.topic, bytes(message.payload)))


def _object(sender: str, text: str) -> str:
    name = IdentityName(sender)
    return json_line(name, text, identifier="an id", sent_at=1800000000, received_at=1800000001.5, sealed="identity")


def _adapted(nodes: list[dict[str, Any]], broker: Mosquitto) -> list[dict[str, Any]]:
    """Return the flow with the place of the broker, and a button that presses itself."""
    changes: Mapping[str, dict[str, object]] = {
        "mqtt-broker": {"broker": broker.host, "port": str(broker.port)},
        "inject": {"once": True, "onceDelay": "1"},
    }
    return [node | changes.get(node["type"], {}) for node in nodes]


if __name__ == "__main__":
    main()
