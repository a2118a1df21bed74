"""What the system reports about its clock."""

import ctypes
from pathlib import Path

import pytest

from idlib.system import clock


class Timex(ctypes.Structure):
    """The beginning of struct timex, as adjtimex(2) has it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 512),
    )


def test_the_clock_is_synchronized_if_adjtimex_reports_it() -> None:
    sta_unsync = 0x0040
    timex = Timex()
    ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    assert clock.is_synchronized() is not bool(timex.status & sta_unsync)


def test_the_boot_identifier_does_not_change_while_the_system_runs() -> None:
    assert clock.boot() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_the_boot_identifier_is_empty_if_the_system_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(clock, "_BOOT_ID", tmp_path / "absent")
    assert clock.boot() == ""
