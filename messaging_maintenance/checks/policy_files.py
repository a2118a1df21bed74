"""The lists of senders: whether they can be read, and what they hold."""

from collections.abc import Collection
from typing import Final

from idlib.errors import quoted
from idlib.names import NamePatterns
from idlib.output import counted
from idlib.settings import Settings
from messaging_maintenance.checks.configuration import Problem
from messaging_maintenance.checks.result import Item, fail, ok

POLICY_VARIABLES: Final = ("DENIED_SENDERS", "ALLOWED_SENDERS", "REQUIRE_BINDING", "REQUIRE_FORWARD_SECRECY")


def check_policies(settings: Settings, problems: Collection[Problem]) -> list[Item]:
    """Return what there is to say about the settings that list names.

    Args:
        settings: From the environment.
        problems: Settings that cannot be read.
    """
    bad = [problem for problem in problems if problem.variable in POLICY_VARIABLES]
    if bad:
        return [fail("policy.files", problem.text, f"correct {problem.variable} or its file") for problem in bad]
    lists = (
        settings.denied_senders,
        settings.allowed_senders,
        settings.require_binding,
        settings.require_forward_secrecy,
    )
    shown = [
        _described(variable, patterns)
        for variable, patterns in zip(POLICY_VARIABLES, lists, strict=True)
        if patterns is not None
    ]
    return [ok("policy.files", "; ".join(shown) or "messages of every sender are accepted")]


def _described(variable: str, patterns: NamePatterns) -> str:
    source = "" if patterns.source is None else f" from {quoted(patterns.source)}"
    return f"{variable}: {counted(len(patterns.texts), 'pattern')}{source}"
