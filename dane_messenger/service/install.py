"""Install the services of an identity: their user, units, settings and directories."""

import argparse
import os
import pwd
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from dane_messenger.service import written_files
from dane_messenger.service.host import own_command, require_root, require_systemd, require_visible, run, systemctl
from dane_messenger.service.layout import USER, VERBS, Layout, check_length, unit_of
from dane_messenger.service.units import SYSUSERS, settings_text, units
from idlib.errors import ServiceError, quoted
from idlib.files import make_durable
from idlib.names import IdentityName
from idlib.program.command_line import parser
from idlib.settings import CREDENTIALS

_SETTINGS_MODE: Final = 0o640
_PRIVATE_MODE: Final = 0o700
_DIRECTORIES: Final = ("identity", "data", "epoch-records")


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    line = parser(
        "Install systemd services for a device: a receiver, a sender that delivers queued messages, and the"
        " maintenance of its identity. They run as the user dane-messenger and start at boot. Running it again after an"
        " update writes the units again; settings and keys are kept.",
        "sudo {program} alice._device.example.com",
    )
    line.add_argument("name", nargs="?", metavar="NAME", help="the device's DNS name")
    line.add_argument(
        "--units", type=Path, metavar="DIR", help="only write the units, and the file for sysusers.d, into DIR"
    )
    return line


def main() -> None:
    """Install the services, and print what to do next.

    Raises:
        ServiceError: They cannot be installed; nothing is half-written.
        MalformedNameError: The name is not a device name.
    """
    line = command_line()
    arguments = line.parse_args()
    if (arguments.name is None) == (arguments.units is None):
        line.error("give either NAME or --units DIR")
    command = own_command()
    if arguments.units is not None:
        write_units(arguments.units, arguments.units / "dane-messenger.conf", command)
        return
    name = IdentityName(arguments.name)
    check_length(name)
    require_root()
    require_systemd()
    require_visible(command)
    layout = Layout()
    is_changed = write_units(layout.units, layout.sysusers, command)
    run("systemd-sysusers", str(layout.sysusers))
    user = pwd.getpwnam(USER)
    make_directories(layout, name, user.pw_uid, user.pw_gid)
    is_new = write_settings(layout.settings_of(name), settings_text(name, user.pw_uid), user.pw_gid)
    systemctl("daemon-reload")
    systemctl("enable", *(unit_of(kind, name) for kind in VERBS))
    print(_next_steps(layout, name, is_new=is_new, is_changed=is_changed), file=sys.stderr)


def write_units(directory: Path, sysusers: Path, command: Path) -> bool:
    """Write the units and the file that declares their user; return whether that changed anything.

    Args:
        directory: Of the units.
        sysusers: The file that declares the user.
        command: The absolute path of dane-messenger.

    Raises:
        ServiceError: A file was changed by someone else, and none is written; or one cannot be written.
    """
    texts = {sysusers: SYSUSERS, **{directory / name: text for name, text in units(command).items()}}
    written_files.check_replaceable(list(texts))
    changes = [written_files.write(path, text) for path, text in texts.items()]
    return any(changes)


def make_directories(layout: Layout, name: IdentityName, uid: int, gid: int) -> None:
    """Create the directories of an identity, and those above them, unless they exist.

    Args:
        layout: Where they are.
        name: The device.
        uid: The user of the services.
        gid: Its group.

    Raises:
        ServiceError: One cannot be created.
    """
    state = layout.state_of(name)
    try:
        for path in (layout.settings, layout.state):
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        for path in (layout.credentials, layout.credentials_of(name)):
            path.mkdir(mode=_PRIVATE_MODE, exist_ok=True)
        for group in CREDENTIALS:
            (layout.credentials_of(name) / group).mkdir(mode=_PRIVATE_MODE, exist_ok=True)
        for path in (state, *(state / one for one in _DIRECTORIES)):
            with suppress(FileExistsError):
                path.mkdir(mode=_PRIVATE_MODE)
                _give_away(path, uid, gid)
    except OSError as error:
        raise ServiceError(f"{quoted(str(error.filename))} cannot be created: {error.strerror}", "check it") from error


def _give_away(path: Path, uid: int, gid: int) -> None:
    # By descriptor, because the user of the services, who owns the directory above, could put a link in its place.
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(descriptor, uid, gid)
    finally:
        os.close(descriptor)


def write_settings(path: Path, text: str, gid: int) -> bool:
    """Write a file of settings, which root can write and the group can read, unless it exists; return whether it did.

    Args:
        path: The file.
        text: What it is to hold.
        gid: The group.

    Raises:
        ServiceError: It cannot be written.
    """
    staged = path.with_name(f".{os.urandom(8).hex()}.new")
    try:
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fchown(descriptor, 0, gid)
                os.fchmod(descriptor, _SETTINGS_MODE)
                os.fsync(descriptor)
            # Unlike a rename, this replaces nothing.
            os.link(staged, path)
        finally:
            staged.unlink()
        make_durable(path.parent)
    except FileExistsError:
        return False
    except OSError as error:
        raise ServiceError(f"{quoted(path)} cannot be written: {error.strerror}", "check the disk") from error
    return True


def _next_steps(layout: Layout, name: IdentityName, *, is_new: bool, is_changed: bool) -> str:
    settings = layout.settings_of(name)
    units = " ".join(unit_of(kind, name) for kind in VERBS)
    if is_new:
        create = f"run dane-messenger service run {name} identity new"
        return f"Installed. Next: edit {settings}, {create}, and run systemctl start {units}"
    done = "The units are new" if is_changed else "The units are as before"
    return f"{done}; {settings} and the keys are kept. Next: run systemctl restart {units}"
