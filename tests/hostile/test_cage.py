"""The limits of the receiver's container, set with control groups of both versions."""

import subprocess
from pathlib import Path

import pytest
import yaml

from hostile.cage import MAX_PROCESSES, MEMORY_BYTES, Cage, CageError
from tests import documents


def test_the_limits_are_those_of_the_compose_file() -> None:
    service = yaml.safe_load((documents.ROOT / "docker-compose.yml").read_text())["services"]["messaging_receiver"]
    assert service["mem_limit"] == f"{MEMORY_BYTES // 2**20}m"
    assert service["pids_limit"] == MAX_PROCESSES


def first_version(root: Path) -> None:
    for controller in ("memory", "pids"):
        (root / controller).mkdir()


def second_version(root: Path) -> None:
    (root / "cgroup.controllers").write_text("cpu memory pids\n")


@pytest.mark.parametrize("prepare", [first_version, second_version])
def test_a_group_is_created_entered_and_removed(prepare: object, tmp_path: Path) -> None:
    assert callable(prepare)
    prepare(tmp_path)
    with Cage(tmp_path) as cage:
        limits = {path.name: path.read_text() for path in tmp_path.glob("**/hostile-*/*")}
        assert sorted(limits.values()) == sorted(map(str, (MEMORY_BYTES, MAX_PROCESSES)))
        shell = [*cage.entrance, "sh", "-c", "echo $$"]
        process_id = subprocess.run(shell, capture_output=True, text=True, check=True).stdout
        entered = {path.read_text() for path in tmp_path.glob("**/hostile-*/cgroup.procs")}
        assert entered == {process_id}
        for group in tmp_path.glob("**/hostile-*"):
            (group / "memory.events").write_text("oom 4\noom_kill 3\n")
            (group / "memory.oom_control").write_text("under_oom 0\noom_kill 3\n")
        assert cage.kills == 3
    assert not list(tmp_path.glob("**/hostile-*"))


def test_the_reason_is_reported_if_no_group_can_be_created(tmp_path: Path) -> None:
    with pytest.raises(CageError, match="no control group can be created"), Cage(tmp_path / "missing"):
        pass
