"""The declaration of one environment variable."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

FILE_FORM: Final = "the absolute path of a file, or one that starts with ~/"


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable.

    Args:
        name: Its name in the environment.
        read: Turns the text into the value, or raises ValueError or MalformedListError.
        form: What a good value looks like, for error messages.
        help: What it is for, for the table in docs/settings.md.
        default: The text that is used if the variable is not set; None if there is no default.
        required: Whether the program cannot start without it.
    """

    name: str
    read: Callable[[str], Any]
    form: str
    help: str
    default: str | None = None
    required: bool = False


class UnfitValueError(ValueError):
    """A value that is wrong for a reason that the error gives.

    Args:
        fault: The text that follows the value in the error, such as "is a relative path".
    """

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.fault = fault


class SecretValueError(ValueError):
    """A value that is wrong for a reason that the error gives, and is never shown, because it may contain a secret.

    Args:
        fault: The text that follows "it" in the error, such as "contains a password".
    """

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.fault = fault
