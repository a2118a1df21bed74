import subprocess
import sys

import pytest

from testbed.programs import ROOT


def test_what_starts_the_workers_has_imported_neither_dns_nor_mqtt_nor_a_database() -> None:
    program = (
        "import sys, messaging_receiver.start\n"
        "print(sorted({'dns', 'paho', 'sqlite3', 'psycopg', 'publicsuffixlist'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("module", ["messaging_receiver.application", "messaging_sender.transmission"])
def test_the_programs_import_no_resolver_of_the_dns_library(module: str) -> None:
    program = (
        "import sys; from idlib.program.imports import leave_out_dns_resolver; leave_out_dns_resolver()\n"
        f"import {module}\n"
        "print(sys.modules['dns.resolver'], 'dns.query' in sys.modules, 'paho.mqtt.client' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "None False True\n"
