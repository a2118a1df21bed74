"""Validates the configuration for discovery with Home Assistant's own schemas; run by hand: it is a large package.

In a virtual environment of its own, with the checkout as the working directory:

    uv pip install homeassistant paho-mqtt
    python -m testbed.home_assistant CONFIGURATION.json

The file has what is retained at homeassistant/device/OBJECT_ID/config. It was valid for Home Assistant 2025.4.4.
"""

import asyncio
import copy
import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

_MQTT = "homeassistant.components.mqtt"


async def validate(configuration: dict[str, Any]) -> str:
    """Return the version of Home Assistant that accepts a configuration; raise its own error if it does not."""
    # Templates are checked with the running instance.
    importlib.import_module("homeassistant.core").HomeAssistant(tempfile.mkdtemp())
    importlib.import_module(f"{_MQTT}.schemas").DEVICE_DISCOVERY_SCHEMA(copy.deepcopy(configuration))
    shared = {name: configuration[name] for name in ("device", "origin", "availability_topic")}
    for entity in configuration["components"].values():
        members = {**shared, **copy.deepcopy(entity)}
        # This schema rejects members that it does not know; the one for discovery ignores them.
        importlib.import_module(f"{_MQTT}.{members.pop('platform')}").PLATFORM_SCHEMA_MODERN(members)
    return str(importlib.import_module("homeassistant.const").__version__)


if __name__ == "__main__":
    print("valid for Home Assistant", asyncio.run(validate(json.loads(Path(sys.argv[1]).read_text()))))
