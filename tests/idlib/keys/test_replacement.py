import subprocess
import sys
from pathlib import Path

import pytest

from idlib import keys
from tests.idlib.identity_files import NAME, OWN_UID, files_in, put_keys


def test_replaced_keys_move_up_and_the_fourth_is_deleted(tmp_path: Path) -> None:
    for number in range(5):
        keys.replace_key(tmp_path, NAME, b"key %d" % number, OWN_UID, {tmp_path / "crt": b"crt %d" % number})
    assert keys.key_path(tmp_path, NAME).read_bytes() == b"key 4"
    assert [path.read_bytes() for path in keys.previous_key_paths(tmp_path, NAME)] == [b"key 3", b"key 2", b"key 1"]
    assert (tmp_path / "crt").read_bytes() == b"crt 4"
    assert len(files_in(tmp_path)) == 5


@pytest.mark.parametrize("renames_before_the_kill", range(6))
def test_no_key_is_lost_if_the_process_is_killed_while_replacing_one(
    tmp_path: Path, renames_before_the_kill: int
) -> None:
    put_keys(tmp_path, current=b"C", previous=(b"P1", b"P2", b"P3"))
    certificate = keys.certificate_path(tmp_path, NAME)
    certificate.write_bytes(b"crt of C")
    script = f"""
import os, signal
from pathlib import Path
from typing import Any, Final
from idlib import keys
from idlib.names import IdentityName
directory, certificate, name = Path({str(tmp_path)!r}), Path({str(certificate)!r}), IdentityName({NAME.text!r})
left, rename = {renames_before_the_kill}, Path.replace
def killing(self, target):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return rename(self, target)
Path.replace = killing
with keys.locked(directory):
    keys.replace_key(directory, name, b"N", {OWN_UID}, {{certificate: b"crt of N"}})
"""
    ended = subprocess.run([sys.executable, "-c", script], check=False)
    assert ended.returncode == (-9 if renames_before_the_kill < 5 else 0)

    current = keys.key_path(tmp_path, NAME).read_bytes()
    previous = [path.read_bytes() for path in keys.previous_key_paths(tmp_path, NAME)]
    assert current in {b"C", b"N"}
    assert {b"C", b"P1", b"P2"} <= {current, *previous}
    assert certificate.read_bytes() in {b"crt of C", b"crt of N"}

    with keys.locked(tmp_path):
        keys.replace_key(tmp_path, NAME, b"M", OWN_UID)
    previous = [path.read_bytes() for path in keys.previous_key_paths(tmp_path, NAME)]
    assert previous == ([b"C", b"P1", b"P2"] if current == b"C" else [b"N", b"C", b"P1"])
    assert len(files_in(tmp_path)) == 5
