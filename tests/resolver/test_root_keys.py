"""The resolver's root keys: IANA's list, and the state of RFC 5011."""

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.resolver.root_anchors import anchors, ds_of, valid_anchors

SEED: Final = Path(__file__).parents[2] / "resolver/seed_root_key.sh"
OLD, NEW = (f". IN DNSKEY {anchor.dnskey}" for anchor in anchors() if anchor.dnskey)
OTHER: Final = OLD.replace("AwEAAaz", "AwEAAax")
HEAD: Final = "; autotrust trust anchor file\n;;id: . 1\n;;last_queried: 1795637492 ;;Wed Nov 25 20:11:32 2026\n"


def kept(record: str, state: int) -> str:
    """Return a record as Unbound stores it."""
    data = record.removeprefix(". IN DNSKEY ")
    names = ("START", "ADDPEND", "VALID", "MISSING", "REVOKED", "REMOVED")
    if names[state] == "REVOKED":
        data = data.replace("257 ", "385 ", 1)
    return f".\t172800\tIN\tDNSKEY\t{data} ;{{id = 1 (ksk)}} ;;state={state} [ {names[state]} ] ;;count=0 ;;x"


def seed(tmp_path: Path, *image: str, state: str | None) -> subprocess.CompletedProcess[str]:
    (tmp_path / "image").write_text("".join(f"{line} ; keytag 1\n" for line in image))
    if state is not None:
        (tmp_path / "state").write_text(state)
    return subprocess.run(
        [SEED, tmp_path / "image", tmp_path / "state"], capture_output=True, text=True, check=False, timeout=20
    )


def state_of(tmp_path: Path) -> dict[str, str]:
    """Return for each key in the state its number there, or none."""
    found = {}
    for line in (tmp_path / "state").read_text().splitlines():
        if match := re.match(r"\.\s.*DNSKEY\s+\d+ 3 8 (\S+)( .*;;state=(\d))?", line):
            assert match[1] not in found
            found[match[1]] = match[3] or ""
    return {{_data(OLD): "old", _data(NEW): "new", _data(OTHER): "other"}[key]: number for key, number in found.items()}


def _data(record: str) -> str:
    return record.rsplit(maxsplit=1)[-1]


def test_the_list_has_the_keys_that_the_root_is_signed_with() -> None:
    tags = {anchor.ds.split()[0] for anchor in valid_anchors()}
    assert tags >= {"38696"}
    assert {anchor.ds.split()[0] for anchor in anchors()} >= {"19036", "20326", "38696"}


def test_the_digests_in_the_list_are_those_of_its_keys() -> None:
    for anchor in anchors():
        if anchor.dnskey:
            assert ds_of(f". IN DNSKEY {anchor.dnskey}") == anchor.ds


@pytest.mark.parametrize("state", [None, "", "\0\1 damaged\n", HEAD, ". IN DNSKEY 257 3 8 AwEAA\n"])
def test_the_keys_of_the_image_are_used_without_a_usable_state(tmp_path: Path, state: str | None) -> None:
    assert seed(tmp_path, OLD, NEW, state=state).returncode == 0
    assert state_of(tmp_path) == {"old": "", "new": ""}


@pytest.mark.parametrize("image", [(OLD,), (NEW,), (OLD, NEW)])
def test_a_state_that_trusts_all_keys_of_the_image_is_not_changed(tmp_path: Path, image: tuple[str, ...]) -> None:
    state = f"{HEAD}{kept(OLD, 3)}\n{kept(NEW, 2)}\n"
    done = seed(tmp_path, *image, state=state)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "state").read_text() == state


def test_a_key_that_the_state_lacks_is_added_and_none_is_lost(tmp_path: Path) -> None:
    done = seed(tmp_path, OLD, NEW, state=f"{HEAD}{kept(OLD, 2)}\n{kept(OTHER, 2)}\n")
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) == 1
    assert state_of(tmp_path) == {"old": "2", "other": "2", "new": ""}


@pytest.mark.parametrize("state", [0, 1])
def test_a_key_that_is_not_trusted_yet_is_trusted_once_the_image_has_it(tmp_path: Path, state: int) -> None:
    """The hold-down of 30 days may not have ended if the device was off while the root changed its key."""
    kept_state = f"{HEAD}{kept(OLD, 2)}\n{kept(NEW, state)}\n{kept(OTHER, state)}\n"
    assert seed(tmp_path, OLD, NEW, state=kept_state).returncode == 0
    assert state_of(tmp_path) == {"old": "2", "new": "", "other": str(state)}


@pytest.mark.parametrize("state", [4, 5])
def test_a_revoked_key_is_not_trusted_again(tmp_path: Path, state: int) -> None:
    kept_state = f"{HEAD}{kept(OLD, state)}\n{kept(NEW, 2)}\n"
    assert seed(tmp_path, OLD, NEW, state=kept_state).returncode == 0
    assert state_of(tmp_path) == {"old": str(state), "new": "2"}


def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    seed(tmp_path, OLD, NEW, state=None)
    seeded = (tmp_path / "state").read_text()
    assert seed(tmp_path, OLD, NEW, state=None).stderr == ""
    assert (tmp_path / "state").read_text() == seeded


def test_an_image_without_keys_keeps_the_state_and_reports_if_there_is_none(tmp_path: Path) -> None:
    state = f"{HEAD}{kept(OLD, 2)}\n"
    assert seed(tmp_path, state=state).returncode == 0
    assert (tmp_path / "state").read_text() == state
    (tmp_path / "state").unlink()
    done = seed(tmp_path, state=None)
    assert done.returncode == 1
    assert done.stderr == f"There is no root key in {tmp_path}/image, nor in {tmp_path}/state.\n"


def test_a_state_that_cannot_be_written_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "state.new").mkdir()
    state = f"{HEAD}{kept(OLD, 2)}\n"
    done = seed(tmp_path, OLD, NEW, state=state)
    assert done.returncode == 1
    assert "cannot be written" in done.stderr.splitlines()[-1]
    assert (tmp_path / "state").read_text() == state
