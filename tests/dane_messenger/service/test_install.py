"""Installing and removing: what is written, what is kept, and what is refused."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import idlib
from dane_messenger.command import VERBS
from dane_messenger.service import host
from dane_messenger.service.host import own_command, require_visible, run
from dane_messenger.service.install import make_directories, write_settings, write_units
from dane_messenger.service.layout import UNITS, Layout
from dane_messenger.service.remove import belongings_of, purge, remove_units
from idlib.errors import ServiceError
from idlib.names import IdentityName

PROGRAM = Path(sys.executable).with_name("dane-messenger")
ALICE, BOB = IdentityName("a-b._device.example.com"), IdentityName("bob._device.example.com")
COMMAND = Path("/opt/dane-messenger/bin/dane-messenger")


def dane_messenger(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROGRAM), "service", *words],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def root() -> None:
    if os.geteuid() != 0:
        pytest.fail("only root can give files away: run the tests as root")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


@pytest.fixture
def installed(layout: Layout) -> Layout:
    """Return the files of an installed device, as root has them; its services are enabled."""
    write_units(layout.units, layout.sysusers, COMMAND)
    make_directories(layout, ALICE, os.getuid(), os.getgid())
    write_settings(layout.settings_of(ALICE), "IDENTITY_NAME=x\n", os.getgid())
    enable(layout, ALICE)
    return layout


def enable(layout: Layout, name: IdentityName) -> None:
    wants = layout.units / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    for unit in UNITS.values():
        (wants / unit.replace("@", f"@{name}")).symlink_to(layout.units / unit)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("install",), "give either NAME or --units DIR"),
        (("install", ALICE.text, "--units", "/tmp/x"), "give either NAME or --units DIR"),
        (("remove",), "the following arguments are required: NAME"),
        (("status",), "the following arguments are required: NAME"),
        (("run", ALICE.text), "give a verb, such as identity new"),
        (("start", ALICE.text), "unknown verb 'start'"),
    ],
)
def test_wrong_usage_is_one_line_and_status_64(words: tuple[str, ...], complaint: str) -> None:
    ended = dane_messenger(*words)
    assert (ended.returncode, ended.stdout) == (64, "")
    assert complaint in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("verb", ["install", "remove", "status", "run"])
@pytest.mark.parametrize("name", ["alice", "../../etc/shadow", "a.b/../c", "-x.example", "a b.example", "%i.example"])
def test_what_is_not_a_name_never_becomes_a_path(verb: str, name: str) -> None:
    ended = dane_messenger(verb, "--", name, "send") if verb == "run" else dane_messenger(verb, "--", name)
    assert (ended.returncode, ended.stdout) == (64, "")
    assert "is not a device name" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [("status", ALICE.text), ("install", ALICE.text), ("run", ALICE.text, "send")])
def test_without_systemd_the_error_says_what_to_do(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(host, "_RUNNING", tmp_path / "missing")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    verb = f"service {words[0]}"
    monkeypatch.setattr(sys, "argv", [f"dane-messenger {verb}", *words[1:]])
    with pytest.raises(ServiceError) as caught:
        import_module(VERBS[verb][0]).main()
    assert caught.value.exit_status == 1
    assert str(caught.value) == (
        "systemd does not run on this machine; start receive, deliver and maintain with your service manager"
    )


def test_only_root_may_change_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ServiceError, match="can only be changed by root; run the command with sudo"):
        host.require_root()


def test_the_units_can_be_written_for_a_package(tmp_path: Path) -> None:
    directory = tmp_path / "package" / "units"
    for _ in range(2):
        ended = dane_messenger("install", "--units", str(directory))
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert sorted(path.name for path in directory.iterdir()) == sorted(["dane-messenger.conf", *UNITS.values()])
    assert f"\nExecStart={PROGRAM} receive\n" in (directory / UNITS["receiver"]).read_text()


def test_nothing_is_written_if_one_unit_was_changed(layout: Layout) -> None:
    write_units(layout.units, layout.sysusers, COMMAND)
    changed = layout.units / UNITS["sender"]
    changed.write_text(changed.read_text() + "Nice=5\n")
    before = {path: path.read_text() for path in layout.units.iterdir()}
    with pytest.raises(ServiceError, match="was changed"):
        write_units(layout.units, layout.sysusers, Path("/opt/other/dane-messenger"))
    assert {path: path.read_text() for path in layout.units.iterdir()} == before


def test_an_update_replaces_the_units(layout: Layout) -> None:
    assert write_units(layout.units, layout.sysusers, COMMAND)
    assert not write_units(layout.units, layout.sysusers, COMMAND)
    assert write_units(layout.units, layout.sysusers, Path("/opt/other/dane-messenger"))
    assert "/opt/other/" in (layout.units / UNITS["sender"]).read_text()


@pytest.mark.usefixtures("root")
def test_settings_are_written_once_and_only_the_group_can_read_them(layout: Layout) -> None:
    layout.settings.mkdir(parents=True)
    path = layout.settings_of(ALICE)
    assert write_settings(path, "one\n", 4711)
    assert not write_settings(path, "two\n", 4711)
    assert path.read_text() == "one\n"
    status = path.stat()
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o640, 0, 4711)
    assert list(layout.settings.iterdir()) == [path]


@pytest.mark.usefixtures("root")
def test_a_link_in_place_of_the_settings_is_neither_followed_nor_replaced(layout: Layout, tmp_path: Path) -> None:
    layout.settings.mkdir(parents=True)
    layout.settings_of(ALICE).symlink_to(tmp_path / "elsewhere")
    assert not write_settings(layout.settings_of(ALICE), "text\n", 0)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.usefixtures("root")
def test_directories_belong_to_the_services_and_credentials_to_root(layout: Layout) -> None:
    for _ in range(2):
        make_directories(layout, ALICE, 4711, 4712)
    for path in (layout.state_of(ALICE), *layout.state_of(ALICE).iterdir()):
        assert (path.stat().st_mode & 0o777, path.stat().st_uid, path.stat().st_gid) == (0o700, 4711, 4712)
    assert {path.name for path in layout.state_of(ALICE).iterdir()} == {"identity", "data", "epoch-records"}
    for path in (layout.credentials, layout.credentials_of(ALICE), *layout.credentials_of(ALICE).iterdir()):
        assert (path.stat().st_mode & 0o777, path.stat().st_uid) == (0o700, 0)
    assert {path.name for path in layout.credentials_of(ALICE).iterdir()} == {"broker", "dns"}


def test_a_file_in_place_of_a_directory_is_named(layout: Layout) -> None:
    layout.state.parent.mkdir(parents=True)
    layout.state.touch()
    with pytest.raises(ServiceError, match=r"'.*/var/lib/dane-messenger' cannot be created: File exists"):
        make_directories(layout, ALICE, os.getuid(), os.getgid())


def test_units_are_removed_unless_another_device_uses_them(installed: Layout) -> None:
    assert len(installed.enabled(ALICE)) == 3
    assert installed.enabled_for_others(ALICE) == set()
    enable(installed, BOB)
    assert len(installed.enabled_for_others(ALICE)) == 3
    assert remove_units(installed) == []
    assert not installed.sysusers.exists()
    assert [path.name for path in installed.units.iterdir()] == ["multi-user.target.wants"]


def test_a_unit_that_was_changed_is_not_removed(installed: Layout) -> None:
    changed = installed.units / UNITS["maintenance"]
    changed.write_text("[Service]\n")
    assert remove_units(installed) == [changed]
    assert changed.read_text() == "[Service]\n"


def test_purging_deletes_only_what_belongs_to_the_device(installed: Layout, tmp_path: Path) -> None:
    make_directories(installed, BOB, os.getuid(), os.getgid())
    key = installed.state_of(ALICE) / "identity" / "key"
    key.touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    (installed.state_of(ALICE) / "data" / "link").symlink_to(elsewhere)
    drop_ins = installed.units / f"messenger-sender@{ALICE}.service.d"
    drop_ins.mkdir()
    (drop_ins / "override.conf").touch()
    belongings = belongings_of(installed, ALICE)
    kept = [installed.state_of(ALICE), installed.settings_of(ALICE), installed.credentials_of(ALICE), drop_ins]
    assert belongings == kept
    purge(belongings)
    assert belongings_of(installed, ALICE) == []
    assert (elsewhere / "kept").exists()
    assert installed.state_of(BOB).is_dir()


def test_purging_removes_a_link_and_not_its_target(installed: Layout, tmp_path: Path) -> None:
    target = tmp_path / "disk"
    installed.state_of(ALICE).rename(target)
    installed.state_of(ALICE).symlink_to(target)
    purge([installed.state_of(ALICE)])
    assert target.is_dir()
    assert not installed.state_of(ALICE).is_symlink()


def test_the_command_is_the_one_that_runs() -> None:
    assert own_command() == PROGRAM


@pytest.mark.parametrize(
    ("prefix", "hidden"),
    [
        ("/home/alice/.local/pipx/venvs/dane-mqtt-messenger", "/home"),
        ("/root/.local/share/pipx/venvs/dane-mqtt-messenger", "/root"),
        ("/tmp/venv", "/tmp"),
    ],
)
def test_an_installation_that_services_cannot_read_is_reported_with_what_to_do(
    prefix: str, hidden: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", prefix)
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(idlib, "__file__", "/usr/lib/python3/dist-packages/idlib/__init__.py")
    with pytest.raises(ServiceError) as caught:
        require_visible(Path("/bin/true"))
    assert caught.value.fact == f"services cannot read '{prefix}', because it is in {hidden}"
    assert "pipx install --global" in caught.value.hint


def test_an_installation_that_only_its_owner_can_read_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "_HIDDEN", ())
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(sys, "prefix", "/usr")
    monkeypatch.setattr(idlib, "__file__", "/usr/lib/python3/__init__.py")
    closed = tmp_path / "venv"
    closed.mkdir(mode=0o700)
    command = closed / "dane-messenger"
    command.touch(0o755)
    for directory in (tmp_path, *tmp_path.parents):
        if not directory.stat().st_mode & 0o001:
            break
    with pytest.raises(ServiceError, match="because only its owner can read "):
        require_visible(command)


def test_a_command_of_the_system_that_fails_is_one_line() -> None:
    with pytest.raises(ServiceError, match=r"^sh -c failed: one; look at journalctl$"):
        run("sh", "-c", "echo one >&2; echo two >&2; exit 3")
    with pytest.raises(ServiceError, match="there is no command no-such-command"):
        run("no-such-command")
    assert run("sh", "-c", "echo $LC_ALL; cat") == "C.UTF-8\n"


def test_a_command_of_the_system_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_SECONDS", 0.1)
    with pytest.raises(ServiceError, match=r"sleep 60 did not end within 0.1 s"):
        run("sleep", "60")
