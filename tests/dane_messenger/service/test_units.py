"""The units: what systemd-analyze says of them, and what they hold."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dane_messenger.service.layout import MAX_NAME_BYTES, UNITS, VERBS, check_length, unit_of
from dane_messenger.service.units import SYSUSERS, settings_text, unit, units
from idlib.errors import ServiceError
from idlib.names import IdentityName
from idlib.settings import CREDENTIALS, VARIABLES, load

NAME = IdentityName("a-b._device.example.com")
# Any file that can be run: systemd-analyze looks whether it is there.
COMMAND = Path("/bin/true")
MAX_EXPOSURE = 2.0


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name, text in units(COMMAND).items():
        (tmp_path / name).write_text(text)
    return tmp_path


def analyze(*words: str) -> str:
    assert shutil.which("systemd-analyze"), "install the package systemd"
    done = subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("kind", VERBS)
@pytest.mark.parametrize("name", [NAME.text, "bob.example", "a_b-c._device.xn--bcher-kva.example"])
def test_systemd_finds_no_fault_in_a_unit(kind: str, name: str, directory: Path) -> None:
    instance = directory / unit_of(kind, IdentityName(name))
    instance.symlink_to(UNITS[kind])
    assert analyze("verify", str(instance)) == ""


@pytest.mark.parametrize("kind", VERBS)
def test_a_unit_exposes_little(kind: str, directory: Path) -> None:
    shown = analyze("security", "--offline=yes", "--no-pager", str(directory / UNITS[kind]))
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+) ", shown)
    assert level, shown
    assert float(level[1]) <= MAX_EXPOSURE


@pytest.mark.parametrize("name", ["a-b._device.example.com", "a--b._c.example", "x" * 63 + ".example"])
def test_systemd_needs_no_escaping_for_a_name(name: str) -> None:
    if shutil.which("systemd-escape") is None:
        pytest.fail("install the package systemd")
    # A name that needs escaping is changed by --mangle.
    wanted = unit_of("receiver", IdentityName(name))
    done = subprocess.run(["systemd-escape", "--mangle", wanted], capture_output=True, text=True, check=True)
    assert done.stdout == f"{wanted}\n"


def test_the_longest_name_of_a_unit_is_one_that_systemd_accepts() -> None:
    longest = IdentityName(".".join(["x" * 54] * 4))
    assert len(longest.text) <= MAX_NAME_BYTES
    check_length(longest)
    assert max(len(unit_of(kind, longest)) for kind in VERBS) + MAX_NAME_BYTES - len(longest.text) <= 255
    with pytest.raises(ServiceError, match="is too long for the name of a unit; use one of at most 220"):
        check_length(IdentityName(".".join(["x" * 55] * 4)))


@pytest.mark.parametrize("kind", VERBS)
def test_a_unit_protects_keys_and_runs_the_programs(kind: str) -> None:
    text = unit(kind, Path("/opt/dane-messenger/bin/dane-messenger"))
    assert f"\nExecStart=/opt/dane-messenger/bin/dane-messenger {VERBS[kind]}\n" in text
    # No core file has the memory of a process with keys, also not if the watchdog ends it.
    assert "\nLimitCORE=0\n" in text
    assert "\nWatchdogSignal=SIGKILL\n" in text
    # It would forbid to read whether the clock is set.
    assert "\nProtectClock=" not in text
    (group,) = re.findall(r"^LoadCredential=(\w+):/etc/dane-messenger/credentials/%i/\1/$", text, re.MULTILINE)
    assert group == ("dns" if kind == "maintenance" else "broker")
    assert group in CREDENTIALS


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/opt/my programs/dane-messenger", '"/opt/my programs/dane-messenger"'),
        ("/opt/100%/dane-messenger", "/opt/100%%/dane-messenger"),
        ("/opt/$HOME/dane-messenger", "/opt/$$HOME/dane-messenger"),
        ('/opt/a"b/dane-messenger', '"/opt/a\\"b/dane-messenger"'),
        ("/opt/a\\b/dane-messenger", '"/opt/a\\\\b/dane-messenger"'),
    ],
)
def test_the_path_of_the_command_is_quoted(path: str, words: str) -> None:
    assert f"\nExecStart={words} receive\n" in unit("receiver", Path(path))


def test_a_path_with_a_blank_is_one_that_systemd_finds(tmp_path: Path) -> None:
    command = tmp_path / "my programs 100%" / "dane-messenger"
    command.parent.mkdir()
    shutil.copy("/bin/true", command)
    file = tmp_path / UNITS["receiver"]
    file.write_text(unit("receiver", command))
    assert analyze("verify", str(file)) == ""


def test_the_user_is_declared_as_systemd_reads_it(tmp_path: Path) -> None:
    if shutil.which("systemd-sysusers") is None:
        pytest.fail("install the package systemd")
    file = tmp_path / "dane-messenger.conf"
    file.write_text(SYSUSERS)
    (tmp_path / "etc").mkdir()
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}", str(file)], check=True, capture_output=True)
    (line,) = (tmp_path / "etc" / "passwd").read_text().splitlines()
    assert line.startswith("dane-messenger:x:")
    assert line.endswith(":DANE messenger:/var/lib/dane-messenger:/usr/sbin/nologin")


def settings_in(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))


def test_the_file_of_settings_can_be_used_as_it_is() -> None:
    settings = load(settings_in(settings_text(NAME, 997)))
    assert settings.identity_name == NAME
    assert settings.app_uid == 997
    assert settings.crypto_path == Path(f"/var/lib/dane-messenger/{NAME}/identity")
    assert settings.epoch_spool == Path(f"/var/lib/dane-messenger/{NAME}/epoch-records")


def test_the_file_of_settings_shows_each_setting_with_its_default() -> None:
    text = settings_text(NAME, 997)
    passed = frozenset().union(*CREDENTIALS.values())
    for variable in VARIABLES:
        if variable.name in passed:
            assert f"/etc/dane-messenger/credentials/{NAME}/" in text
            assert f"/{variable.name} (mode 0600)." in text
        elif variable.name not in {
            "BALENA_SERVICE_NAME",
            "ROTATE_TEST_SPEED",
            "DNS_SERVER_PORT",
            "DNS_BOGUS_NAME",
            "EPOCH_PATH",
        }:
            assert re.search(rf"^(# )?{variable.name}=", text, re.MULTILINE), variable.name
    commented = re.findall(r"^# ([A-Z_]+=.+)$", text, re.MULTILINE)
    # What is shown as a default is one.
    assert load({**settings_in(text), **settings_in("\n".join(commented))}) == load(settings_in(text))


@given(st.integers(0, 2**32 - 2))
def test_each_line_of_the_settings_is_a_comment_or_a_setting(uid: int) -> None:
    names = {variable.name for variable in VARIABLES}
    assert set(settings_in(settings_text(NAME, uid))) <= names
