import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "applications" / "maintenance" / "src" / "application.py"


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("environment", "name"), [({}, "maintenance"), ({"BALENA_SERVICE_NAME": "keeper"}, "keeper")])
def test_it_prints_what_can_be_run_and_waits_for_a_signal(
    tmp_path: Path, ending: signal.Signals, environment: dict[str, str], name: str
) -> None:
    with subprocess.Popen(
        [str(PROGRAM)],
        env={"PATH": os.environ["PATH"], **environment},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        assert process.stderr.readline() == f"{name} waiting\n"
        assert "./create_selfsigned_id.py" in process.stderr.readline()
        assert process.poll() is None
        process.send_signal(ending)
        out, _ = process.communicate(timeout=10)
    assert (process.returncode, out) == (0, "")


def test_it_stays_small(tmp_path: Path) -> None:
    listed = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import runpy; runpy.run_path({str(PROGRAM)!r})"],
        env={},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    imported = {line.rpartition("|")[2].strip() for line in listed.splitlines()}
    assert {module for module in imported if module.startswith("idlib")} == {
        "idlib",
        "idlib.program",
        "idlib.program.keep_open",
        "idlib.system",
        "idlib.system.interruption",
        "idlib.system.update_lock",
    }
    assert not imported & {"argparse", "cryptography", "logging", "socket"}


def test_it_prints_its_health(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, str(PROGRAM), "--health"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ended.stdout.startswith("ok")
    assert len(ended.stdout) <= 100
