"""Remove the services of an identity; its keys, data and settings only if that is asked for."""

import argparse
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from dane_messenger.service import written_files
from dane_messenger.service.host import require_root, require_systemd, systemctl
from dane_messenger.service.layout import UNITS, VERBS, Layout, check_length, unit_of
from idlib.errors import ServiceError, quoted
from idlib.names import IdentityName
from idlib.program.command_line import parser


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    line = parser(
        "Stop and disable the services of a device. With the last device, the units are removed. Keys, data, settings"
        " and credentials are kept, so that installing the services again continues where they stopped.",
        "sudo {program} alice._device.example.com",
    )
    line.add_argument("name", metavar="NAME", help="the device's DNS name")
    line.add_argument(
        "--purge",
        action="store_true",
        help="also delete the keys, of which there is no other copy, the data, settings, credentials and drop-ins",
    )
    return line


def main() -> None:
    """Remove the services, and print what is kept or was deleted.

    Raises:
        ServiceError: They are not installed, or cannot be removed.
        MalformedNameError: The name is not a device name.
    """
    arguments = command_line().parse_args()
    name = IdentityName(arguments.name)
    check_length(name)
    require_root()
    require_systemd()
    layout = Layout()
    belongings = belongings_of(layout, name)
    mine = [unit_of(kind, name) for kind in VERBS if (layout.units / UNITS[kind]).exists()]
    if not belongings and not layout.enabled(name):
        raise ServiceError(f"no services are installed for {name}", "check the name")
    if mine:
        systemctl("disable", "--now", *mine)
    for unit in mine:
        # Otherwise a failed service stays in the list of units; one that has not failed is not in it.
        with suppress(ServiceError):
            systemctl("reset-failed", unit)
    changed = [] if layout.enabled_for_others(name) else remove_units(layout)
    for path in changed:
        print(f"{quoted(path)} was changed, and is kept; remove it if it is not needed.", file=sys.stderr)
    if arguments.purge:
        purge(belongings)
    systemctl("daemon-reload")
    print(f"The services of {name} are removed.{_fate(belongings, is_purged=arguments.purge)}", file=sys.stderr)


def belongings_of(layout: Layout, name: IdentityName) -> list[Path]:
    """Return what an identity has on the disk: its keys and data, its settings, credentials and drop-ins.

    Args:
        layout: Where it is.
        name: The device.
    """
    places = [layout.state_of(name), layout.settings_of(name), layout.credentials_of(name)]
    places += layout.drop_ins_of(name)
    return [path for path in places if os.path.lexists(path)]


def remove_units(layout: Layout) -> list[Path]:
    """Remove the units and the file that declares their user; return those that someone has changed, and that stay.

    Args:
        layout: Where they are.

    Raises:
        ServiceError: One cannot be removed.
    """
    changed = []
    for path in (*(layout.units / name for name in UNITS.values()), layout.sysusers):
        if not written_files.is_replaceable(path):
            changed.append(path)
            continue
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ServiceError(f"{quoted(path)} cannot be removed: {error.strerror}", "remove it") from error
    return changed


def purge(belongings: list[Path]) -> None:
    """Delete what an identity has on the disk; a symbolic link is removed, and not followed.

    Args:
        belongings: Its files and directories.

    Raises:
        ServiceError: One cannot be deleted.
    """
    for path in belongings:
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError as error:
            raise ServiceError(f"{quoted(path)} cannot be deleted: {error.strerror}", "delete it") from error


def _fate(belongings: list[Path], *, is_purged: bool) -> str:
    if not belongings:
        return ""
    return f" {'Deleted' if is_purged else 'Kept'}: {', '.join(map(str, belongings))}"
