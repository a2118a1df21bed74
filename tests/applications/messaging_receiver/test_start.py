import subprocess
import sys

from testbed.programs import RECEIVER, ROOT


def test_what_starts_the_workers_has_imported_neither_dns_nor_mqtt_nor_a_database() -> None:
    program = (
        "import sys, messaging_receiver.start\n"
        "print(sorted({'dns', 'paho', 'sqlite3', 'psycopg', 'publicsuffixlist'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"


def test_an_error_names_all_settings_that_are_wrong_also_those_that_are_read_later() -> None:
    done = subprocess.run(
        [sys.executable, RECEIVER],
        capture_output=True,
        text=True,
        check=False,
        env={"IDENTITY_NAME": "", "MQTT_PORT": "x", "RECEIVER_WORKERS": "-1"},
    )
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert sorted(line.split(":")[0] for line in lines) == [
        "Bad value of env var IDENTITY_NAME",
        "Bad value of env var MQTT_PORT",
        "Bad value of env var RECEIVER_WORKERS",
    ]
