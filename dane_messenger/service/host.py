"""The machine on which services are installed: its systemd, and the path of dane-messenger."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

import idlib
from idlib.errors import ServiceError, quoted

# That of Debian 12, with which the units are tested; older ones lack some of what the units say.
MIN_SYSTEMD: Final = 252
_RUNNING: Final = Path("/run/systemd/system")
_SECONDS: Final = 120.0
# What ProtectHome= and PrivateTmp= hide from the services.
_HIDDEN: Final = (Path("/home"), Path("/root"), Path("/run/user"), Path("/tmp"), Path("/var/tmp"))  # noqa: S108  # read
_INSTALL: Final = (
    "install it for all users, for example with pipx install --global, or in a virtual environment in /opt"
)


def require_root() -> None:
    """Check that this program may change the system.

    Raises:
        ServiceError: It may not.
    """
    if os.geteuid() != 0:
        raise ServiceError("services of the system can only be changed by root", "run the command with sudo")


def require_systemd() -> None:
    """Check that systemd runs, and is new enough.

    Raises:
        ServiceError: It does not run, or is too old.
    """
    if not _RUNNING.is_dir() or shutil.which("systemctl") is None:
        raise ServiceError(
            "systemd does not run on this machine", "start receive, deliver and maintain with your service manager"
        )
    version = re.match(r"systemd (\d+)", systemctl("--version"))
    if version is None or int(version[1]) < MIN_SYSTEMD:
        found = "an unknown version" if version is None else version[1]
        raise ServiceError(f"systemd {MIN_SYSTEMD} or newer is needed, and this is {found}", "update the system")


def systemctl(*words: str) -> str:
    """Run systemctl, and return what it prints.

    Args:
        words: Its arguments.

    Raises:
        ServiceError: It cannot be run, or fails.
    """
    return run("systemctl", *words)


def run(*command: str) -> str:
    """Run a command of the system, and return what it prints.

    Args:
        command: The command and its arguments.

    Raises:
        ServiceError: It cannot be run, fails or takes too long.
    """
    shown = " ".join(command[:2])
    try:
        # The output is read by this program, so it must not depend on the locale or the terminal.
        done = subprocess.run(
            command,
            env={**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise ServiceError(f"there is no command {command[0]}", "install the package systemd") from error
    except OSError as error:
        raise ServiceError(f"{shown} cannot be run: {error.strerror}", "try again") from error
    except subprocess.TimeoutExpired as error:
        raise ServiceError(f"{shown} did not end within {_SECONDS:g} s", "look at journalctl") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()[0]
        raise ServiceError(f"{shown} failed: {said}", "look at journalctl")
    return done.stdout


def own_command() -> Path:
    """Return the absolute path of the dane-messenger that is running.

    Raises:
        ServiceError: It has no command beside its Python.
    """
    command = Path(sysconfig.get_path("scripts")) / "dane-messenger"
    if os.access(command, os.X_OK):
        return command
    found = shutil.which("dane-messenger")
    if found is None:
        raise ServiceError(f"there is no {quoted(command)}", "install dane-mqtt-messenger as a package")
    return Path(os.path.realpath(found))


def require_visible(command: Path) -> None:
    """Check that services can read a command, its Python and its packages.

    Args:
        command: The absolute path of dane-messenger.

    Raises:
        ServiceError: They cannot.
    """
    needed = {command, Path(sys.prefix), Path(sys.base_prefix), Path(idlib.__file__).parent}
    for path in sorted({one.resolve() for one in needed} | {command.absolute()}):
        hidden = next((one for one in _HIDDEN if path.is_relative_to(one)), None)
        if hidden is not None:
            raise ServiceError(f"services cannot read {quoted(path)}, because it is in {hidden}", _INSTALL)
        closed = next((one for one in (path, *path.parents) if not _is_open(one)), None)
        if closed is not None:
            raise ServiceError(
                f"services cannot read {quoted(path)}, because only its owner can read {closed}", _INSTALL
            )


def _is_open(path: Path) -> bool:
    """Return whether every user can read a file, or look into a directory."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return bool(mode & 0o005 == 0o005 or (path.is_dir() and mode & 0o001))
