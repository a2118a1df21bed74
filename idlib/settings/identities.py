"""Reads the names of devices and lists of them."""

import re

from idlib.errors import MalformedNameError
from idlib.lists import read_filled_list, read_list
from idlib.names import IdentityName, NamePatterns
from idlib.settings.texts import read_path
from idlib.settings.variable import UnfitValueError


def read_identity_name(text: str) -> IdentityName:
    """Return the name of a device.

    Args:
        text: The value of a variable.

    Raises:
        ValueError: It is not a device name.
    """
    try:
        return IdentityName(text)
    except MalformedNameError as error:
        if text.isascii():
            raise ValueError(text) from error
        raise UnfitValueError(f"is not a device name: {error.hint}") from error


def read_name_patterns(text: str) -> NamePatterns:
    """Return names and patterns, at least one.

    Args:
        text: The names, separated by commas or white space, or @ and the path of a file of them.

    Raises:
        ValueError: There is no name, or something else.
        MalformedListError: The file cannot be read, is empty, or holds something else.
    """
    if text.startswith("@"):
        return read_filled_list(read_path(text[1:]))
    words = [word for word in re.split(r"[,\s]+", text) if word]
    if not words:
        raise UnfitValueError("contains no name")
    try:
        return NamePatterns(tuple(words))
    except MalformedNameError as error:
        raise UnfitValueError(f"is invalid: {error.fact}") from error


def read_denied_names(text: str) -> NamePatterns:
    """Return names and patterns; a file of them may be empty.

    Args:
        text: As for `read_name_patterns`.

    Raises:
        ValueError: There is no name, or something else.
        MalformedListError: The file cannot be read, or holds something else.
    """
    # The file may be empty, so that names can be added later without a restart.
    return read_list(read_path(text[1:])) if text.startswith("@") else read_name_patterns(text)


def read_required_names(text: str) -> NamePatterns:
    """Return names and patterns, at least one; "all" matches every name.

    Args:
        text: "all", or as for `read_name_patterns`.

    Raises:
        ValueError: There is no name, or something else.
        MalformedListError: The file cannot be read, is empty, or holds something else.
    """
    return NamePatterns.all() if text == "all" else read_name_patterns(text)
