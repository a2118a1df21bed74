"""Names the programs of this project in hints, in the form in which the user started this one."""

import os
import shlex
import sys
from typing import Final

_COMMAND: Final = "dane-messenger"
# For each verb of dane-messenger, its service and the file in applications/SERVICE/src that runs the same program.
_FILES: Final = {
    "send": ("messaging_sender", "send_message.py"),
    "deliver": ("messaging_sender", "application.py"),
    "receive": ("messaging_receiver", "application.py"),
    "identity new": ("maintenance", "new_identity.py"),
    "identity create": ("maintenance", "create_selfsigned_id.py"),
    "identity csr": ("maintenance", "create_id_csr.py"),
    "identity install": ("maintenance", "install_certificate.py"),
    "identity check": ("maintenance", "check_identity.py"),
    "identity publish": ("maintenance", "publish_tlsa.py"),
    "identity rotate": ("maintenance", "rotate_id.py"),
    "identity tlsa": ("maintenance", "generate_tlsa.py"),
    "identity epoch on": ("maintenance", "epoch_id.py"),
    "identity epoch off": ("maintenance", "epoch_id.py"),
    "identity epoch publish": ("maintenance", "epoch_id.py"),
    "identity epoch status": ("messaging_receiver", "epoch_keys.py"),
    "identity epoch records": ("messaging_receiver", "epoch_keys.py"),
}
_WITH_ACTION: Final = "identity epoch "
_NAMES: Final = frozenset(name for _, name in _FILES.values())

# About another device's record: its owner's programs are on another machine.
OWNER_PUBLISHES: Final = f"the name's owner publishes the record that {_COMMAND} identity tlsa prints"


def command(verb: str) -> str:
    """Return the command for a program, in the form in which this one was started.

    If this one is a file of a service, so is the other: beside it, in the other service's directory, or, if there is
    none as in a container, "./FILE in SERVICE". Otherwise it is a verb of dane-messenger.

    Args:
        verb: A verb of dane-messenger, such as "identity tlsa".
    """
    if os.path.basename(sys.argv[0]) not in _NAMES or verb not in _FILES:
        return f"{_COMMAND} {verb}"
    service, name = _FILES[verb]
    # One program takes several actions, of which the verb is the last word.
    action = f" {verb.removeprefix(_WITH_ACTION)}" if verb.startswith(_WITH_ACTION) else ""
    directory = own_directory()
    if os.path.basename(os.path.dirname(os.path.realpath(directory))) == service:
        return f"{shlex.quote(f'{directory}/{name}')}{action}"
    path = os.path.normpath(f"{directory}/../../{service}/src/{name}")
    return f"{shlex.quote(path)}{action}" if os.path.exists(path) else f"./{name}{action} in {service}"


def how_to_publish() -> str:
    """Return the hint to publish this device's record."""
    return f"publish the record that {command('identity tlsa')} prints"


def is_verb() -> bool:
    """Return whether this program was started as a verb of dane-messenger."""
    return sys.argv[0].startswith(f"{_COMMAND} ")


def own_directory() -> str:
    """Return the directory of this program, as it was given on the command line."""
    called = sys.argv[0]
    return os.path.dirname(os.path.realpath(called) if os.path.islink(called) else called) or "."
