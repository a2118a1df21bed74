"""One command with a verb for each program; the program behind a verb is imported only when the verb is used."""

import gc
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final, NoReturn

from idlib.system.interruption import end_when_interrupted

if TYPE_CHECKING:
    import argparse

NAME: Final = "dane-messenger"
# For each verb, the module of its program and its help.
VERBS: Final = {
    "send": ("messaging_sender.send_message", "sign, encrypt and publish a message"),
    "deliver": ("messaging_sender.application", "deliver queued messages until stopped"),
    "receive": ("messaging_receiver.start", "receive messages and print each authenticated one"),
    "maintain": ("messaging_maintenance.maintain", "look after the identity until stopped"),
    "identity new": ("messaging_maintenance.new_identity", "create an identity and put it into DNS"),
    "identity create": ("messaging_maintenance.create_selfsigned_id", "create a key and a self-signed certificate"),
    "identity csr": ("messaging_maintenance.create_id_csr", "create a certificate signing request for a CA"),
    "identity install": ("messaging_maintenance.install_certificate", "install the certificate that a CA has issued"),
    "identity check": ("messaging_maintenance.check_identity", "check DNS, records, and all that this device needs"),
    "identity publish": ("messaging_maintenance.publish_tlsa", "put the TLSA record into DNS"),
    "identity rotate": ("messaging_maintenance.rotate_id", "change the key without losing a message"),
    "identity tlsa": ("messaging_maintenance.generate_tlsa", "print the TLSA record to publish in DNS"),
    "identity epoch on": ("messaging_maintenance.epoch_id", "publish epoch keys and have senders use them"),
    "identity epoch off": ("messaging_maintenance.epoch_id", "have senders use the identity key again"),
    "identity epoch publish": ("messaging_maintenance.epoch_id", "publish what the receiver has left now"),
    "identity epoch status": ("messaging_receiver.epoch_keys", "show the keys, and which one senders use"),
    "identity epoch records": ("messaging_receiver.epoch_keys", "print records for weeks, to publish by hand"),
    "service install": ("dane_messenger.service.install", "install systemd services for a device"),
    "service run": ("dane_messenger.service.run", "run another verb as the services do"),
    "service remove": ("dane_messenger.service.remove", "stop and remove them; keys are kept"),
    "service status": ("dane_messenger.service.status", "show whether they run, and how they are"),
    "completion": ("dane_messenger.completion", "print the script that completes commands in a shell"),
}
# For each group of verbs, its line in the help of the command or the group above it.
GROUPS: Final = {
    "identity": "create, publish, check or change the identity of this device",
    "identity epoch": "use keys that keep old messages closed if a key leaks",
    "service": "run the programs for a device as services of systemd",
}
# The last word of these verbs is the first argument of the program.
_WITH_ACTION: Final = "identity epoch"
# For the command itself and for each group of verbs, the description and the example of its help.
_HELP: Final = {
    "": (
        "Send and receive signed and encrypted messages between devices known by their DNS names.",
        f"{NAME} send bob._device.example.com 'Good morning'",
    ),
    "identity": (
        "Create the identity of a device: its key, its certificate and the record that publishes it.",
        f"IDENTITY_NAME=alice._device.example.com {NAME} identity create",
    ),
    "identity epoch": (
        "Use epoch keys: short-lived keys to which senders encrypt, and which the receiver destroys.",
        f"IDENTITY_NAME=alice._device.example.com {NAME} identity epoch on",
    ),
    "service": (
        "Run the receiver, the sender and the maintenance of a device as services of systemd.",
        f"sudo {NAME} service install alice._device.example.com",
    ),
}


def main() -> NoReturn:
    """Run the program behind the verb on the command line, and end with its exit status."""
    # Before the slow imports.
    end_when_interrupted()
    words = sys.argv[1:]
    for length in (1, 2, 3):
        verb = " ".join(words[:length])
        if verb in VERBS:
            _run(verb, words[length:])
    _help(words)


def _run(verb: str, arguments: list[str]) -> NoReturn:
    sys.argv = program_arguments(verb, arguments)
    if sys.argv[1:] == ["--health"] and verb == "receive":
        # Before the rest is imported: the health of a service is checked every 30 s.
        from messaging_receiver.health import main as answer_for_health

        sys.exit(answer_for_health())
    if verb == "maintain" and not arguments:
        # Before the rest is imported, because the service stays in memory as long as the device runs.
        from messaging_maintenance.application import main as maintain

        maintain(f"To create an identity, run {NAME} identity new; see --help.")
        sys.exit()
    # Imports leave no garbage that is worth a search.
    gc.disable()
    from idlib.program.command_line import run

    run(import_module(VERBS[verb][0]).main)


def program_arguments(verb: str, arguments: list[str]) -> list[str]:
    """Return what sys.argv is while the program behind a verb runs.

    Args:
        verb: A verb of dane-messenger.
        arguments: What follows it on the command line.
    """
    group, _, action = verb.rpartition(" ")
    return [f"{NAME} {group}", action, *arguments] if group == _WITH_ACTION else [f"{NAME} {verb}", *arguments]


def group_parser(group: str) -> "argparse.ArgumentParser":
    """Return the parser of the command itself or of a group of verbs: it reads only the verb.

    Args:
        group: Such as "identity"; empty for the command itself.
    """
    from idlib.program.command_line import plain_parser

    line = plain_parser(*_HELP[group])
    line.usage = "%(prog)s [--version] VERB ..."
    line.add_argument("verb", nargs="?", metavar="VERB", help="one of the above; see VERB --help")
    return line


def verbs_of(group: str) -> dict[str, str]:
    """Return the verbs and groups directly in a group, each with its help.

    Args:
        group: Such as "identity"; empty for the command itself.
    """
    found = {verb: help_ for verb, (_, help_) in VERBS.items()} | GROUPS
    return {verb: help_ for verb, help_ in found.items() if verb.rpartition(" ")[0] == group}


def _help(words: list[str]) -> NoReturn:
    """Print the help, or the error that the verb is missing or unknown."""
    from idlib.program.command_line import run

    groups = [" ".join(words[:length]) for length in (1, 2)]
    group = next((one for one in reversed(groups) if one in GROUPS), "")
    depth = len(group.split())
    verbs = verbs_of(group)
    width = max(map(len, verbs))
    listed = "\n".join(f"  {verb:{width}}  {help_}" for verb, help_ in verbs.items())
    sys.argv = [f"{NAME} {group}".rstrip(), *words[depth:]]
    line = group_parser(group)
    line.description = f"{line.description}\n\n{listed}"

    def complain() -> None:
        arguments, unknown = line.parse_known_args()
        if arguments.verb is not None:
            line.error(f"unknown verb {arguments.verb!r}")
        line.error(f"unrecognized arguments: {' '.join(unknown)}" if unknown else "a verb is missing")

    run(complain)
