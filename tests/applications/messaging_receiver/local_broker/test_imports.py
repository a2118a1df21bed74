"""Without LOCAL_MQTT_URL, a receiver imports nothing of the bridge."""

import subprocess
import sys


def test_a_receiver_without_a_local_broker_imports_nothing_of_it() -> None:
    code = (
        "import sys, messaging_receiver.application, messaging_receiver.sinks.printing\n"
        "print([name for name in sys.modules if 'local_broker' in name or name.endswith(('.bridging', '.outbox'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_bridge_without_home_assistant_imports_nothing_of_it() -> None:
    code = (
        "import sys, messaging_receiver.local_broker.bridge\n"
        "print([name for name in sys.modules if 'home_assistant' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
