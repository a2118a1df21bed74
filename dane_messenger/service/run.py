"""Run a verb of dane-messenger as the services do: as their user, with the settings and credentials of a device."""

import argparse
import os
from typing import NoReturn

from dane_messenger.service.host import own_command, require_root, require_systemd, require_visible
from dane_messenger.service.layout import USER, Layout, check_length
from idlib.errors import ServiceError, quoted
from idlib.names import IdentityName
from idlib.program.command_line import parser
from idlib.settings import CREDENTIALS


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    line = parser(
        "Run a verb of dane-messenger as the services of a device do: as the user dane-messenger, with the settings and"
        " credentials of the device. The exit status is that of the verb.",
        "sudo {program} alice._device.example.com identity new",
    )
    line.add_argument("name", metavar="NAME", help="the device's DNS name")
    line.add_argument("words", nargs=argparse.REMAINDER, metavar="VERB ...", help="the verb and its arguments")
    return line


def main() -> NoReturn:
    """Become the command that runs the verb.

    Raises:
        ServiceError: It cannot be run.
        MalformedNameError: The name is not a device name.
    """
    line = command_line()
    arguments = line.parse_args()
    if not arguments.words:
        line.error("give a verb, such as identity new")
    name = IdentityName(arguments.name)
    check_length(name)
    require_root()
    require_systemd()
    command = own_command()
    require_visible(command)
    layout = Layout()
    if not layout.settings_of(name).exists():
        raise ServiceError(
            f"there is no {quoted(layout.settings_of(name))}", f"run dane-messenger service install {name}"
        )
    credentials = layout.credentials_of(name)
    passed = [f"--property=LoadCredential={group}:{credentials}/{group}/" for group in CREDENTIALS]
    properties = [f"--property=EnvironmentFile={layout.settings_of(name)}", "--property=UMask=0077", *passed]
    options = ["--pipe", "--wait", "--collect", "--quiet", f"--uid={USER}", f"--gid={USER}", *properties]
    # systemd would expand a variable in a word, such as the text of a message (systemd.service(5)).
    words = [word.replace("$", "$$") for word in arguments.words]
    try:
        os.execvp("systemd-run", ["systemd-run", *options, "--", str(command), *words])  # noqa: S606
    except OSError as error:
        raise ServiceError(f"systemd-run cannot be run: {error.strerror}", "install the package systemd") from error
