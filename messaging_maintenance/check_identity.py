"""Check an identity: DNS, DNSSEC, records and name servers, and of this device everything else that it needs."""

import argparse
import os
import sys
from typing import TYPE_CHECKING, Final

from idlib.errors import ExitStatus
from idlib.names import IdentityName
from idlib.program.command_line import parser, require_stdout
from idlib.program.environment import read_environment
from idlib.settings import CHECK_READS, DISCOVERY_READS

if TYPE_CHECKING:
    from messaging_maintenance.checks.result import Item

_SECONDS: Final = 27.0
_OTHER_READS: Final = DISCOVERY_READS | {"DNS_SERVER_PORT", "DNS_BOGUS_NAME", "LOG_LEVEL"}


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    line = parser(
        "Check what this device, or the device NAME, needs to send and receive: DNS, DNSSEC, records and name servers;"
        " of this device also its files, clock, resolver, broker and credentials. Nothing is changed. The exit status"
        " is 0 if it is healthy, 8 if a check failed, and 9 if something could not be checked.",
        "IDENTITY_NAME=alice._device.example.com {program}",
    )
    line.add_argument("name", nargs="?", metavar="NAME", help="a device (default: this one, IDENTITY_NAME)")
    line.add_argument("--json", action="store_true", help="print one JSON object; docs/check.md has the ids")
    return line


def main() -> ExitStatus:
    """Run the checks, print what they found, and return OK, CHECK_FAILED or NOT_CHECKED."""
    options = command_line().parse_args()
    require_stdout()
    asked = None if options.name is None else IdentityName(options.name)
    has_identity = "IDENTITY_NAME" in os.environ
    if asked is not None and not has_identity:
        # Another device can be checked from a machine that has no identity of its own.
        os.environ["IDENTITY_NAME"] = str(asked)
    own = read_environment(frozenset({"IDENTITY_NAME"})).identity_name
    name = own if asked is None else asked
    items = check_this_device() if has_identity and name == own else _check_other(name)
    # Imported late, because --help needs none of it.
    from messaging_maintenance.checks.report import as_json, as_text, is_coloured
    from messaging_maintenance.checks.result import exit_status

    coloured = is_coloured(os.environ, is_terminal=sys.stdout.isatty())
    print(as_json(name, items) if options.json else as_text(name, items, coloured=coloured))
    return exit_status(items)


def _check_other(name: IdentityName) -> "list[Item]":
    from messaging_maintenance.checks.plan import Plan
    from messaging_maintenance.checks.running import run_parts

    return run_parts(Plan(name, read_environment(_OTHER_READS)).of_any_name(), _SECONDS)


def check_this_device() -> "list[Item]":
    """Return the results of all checks of this device; takes at most about half a minute.

    Raises:
        ConfigurationError: IDENTITY_NAME is missing or not a device name.
    """
    from messaging_maintenance.checks.configuration import check_settings, find_problems
    from messaging_maintenance.checks.plan import Plan
    from messaging_maintenance.checks.policy_files import POLICY_VARIABLES
    from messaging_maintenance.checks.running import run_parts

    problems = find_problems(os.environ, CHECK_READS)
    settings = read_environment(CHECK_READS - {problem.variable for problem in problems})
    plan = Plan(settings.identity_name, settings, problems)
    others = [problem for problem in problems if problem.variable not in POLICY_VARIABLES]
    return [*check_settings(others, CHECK_READS), *run_parts(plan.of_this_device(), _SECONDS)]
