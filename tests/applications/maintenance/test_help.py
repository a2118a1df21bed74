"""The help starts fast, also on a slow device: it loads neither dnspython nor cryptography."""

import subprocess
import sys

import pytest

_PROGRAM = """
import sys
from importlib import import_module

sys.argv = ["program", "--help"]
try:
    import_module("messaging_maintenance.{module}").main()
except SystemExit:
    print(sorted({{"dns", "cryptography", "idlib.publishing"}} & sys.modules.keys()))
"""


@pytest.mark.parametrize("module", ["generate_tlsa", "publish_tlsa", "epoch_id"])
def test_the_help_loads_little(module: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(module=module)], capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("module", ["rotate_id", "new_identity"])
def test_the_help_loads_no_dns(module: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(module=module)], capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stdout.splitlines()[-1] in {"[]", "['cryptography']"}
