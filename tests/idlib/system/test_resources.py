"""How much of the machine a container may use, by the files of cgroup v2 and v1."""

import os
from pathlib import Path

import pytest

from idlib.system.resources import memory_limit, usable_cores

V2 = {"proc/self/cgroup": "0::/\n"}
V1 = {"proc/self/cgroup": "4:memory:/docker/a\n3:cpuacct,cpu:/docker/a\n2:cpuset:/docker/b\n"}


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 4, 5})


def system(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 4),
        ({**V2, "sys/fs/cgroup/cpu.max": "max 100000\n"}, 4),
        ({**V2, "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({**V2, "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({**V2, "sys/fs/cgroup/cpu.max": "900000 100000\n"}, 4),
        ({**V2, "sys/fs/cgroup/cpu.max": "damaged\n"}, 4),
        (
            {
                "proc/self/cgroup": "0::/user/service\n",
                "sys/fs/cgroup/user/cpu.max": "100000 100000\n",
                "sys/fs/cgroup/user/service/cpu.max": "300000 100000\n",
            },
            1,
        ),
        (
            {
                **V1,
                "sys/fs/cgroup/cpu/docker/a/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu/docker/a/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
        (
            {**V1, "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            4,
        ),
    ],
)
def test_cores(tmp_path: Path, files: dict[str, str], cores: int) -> None:
    assert usable_cores(system(tmp_path, files)) == cores


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({**V2, "sys/fs/cgroup/memory.max": "max\n"}, None),
        ({**V2, "sys/fs/cgroup/memory.max": "134217728\n"}, 134217728),
        (
            {
                "proc/self/cgroup": "0::/user/service\n",
                "sys/fs/cgroup/user/memory.max": "1000\n",
                "sys/fs/cgroup/user/service/memory.max": "2000\n",
            },
            1000,
        ),
        # Inside a container, the path of the host may not exist.
        ({**V1, "sys/fs/cgroup/memory/memory.limit_in_bytes": "134217728\n"}, 134217728),
        ({**V1, "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
    ],
)
def test_memory(tmp_path: Path, files: dict[str, str], limit: int | None) -> None:
    assert memory_limit(system(tmp_path, files)) == limit


def test_this_machine_can_be_read() -> None:
    assert usable_cores() >= 1
    assert memory_limit() is None or memory_limit()
