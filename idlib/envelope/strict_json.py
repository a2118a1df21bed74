"""Strict JSON objects, which all programs read in the same way (RFC 8259, RFC 7493)."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

MAX_DEPTH: Final = 16

_STRING_OR_BRACKET: Final = re.compile(r'"(?:[^"\\]|\\.)*+"?|[][{}]', re.DOTALL)
_SURROGATE_ESCAPE: Final = re.compile(r"\\u[Dd][89A-Fa-f]")


def read_object(text: str) -> dict[str, Any]:
    """Return the object in a JSON text.

    An integer becomes an `int`, a number with a fraction or an exponent a `float`.

    Args:
        text: The text, without a byte order mark; the caller has limited its length.

    Raises:
        ValueError: The text is not a JSON object, has a member twice in one object, has NaN, Infinity or half a
            surrogate pair, or nests deeper than MAX_DEPTH.
    """
    if _has_more_brackets(text, MAX_DEPTH) and _depth(text) > MAX_DEPTH:
        raise ValueError(f"JSON nests deeper than {MAX_DEPTH}")
    value = _DECODER.decode(text)
    if not isinstance(value, dict):
        raise json.JSONDecodeError("Expecting an object", text, 0)
    if "\\" in text and _SURROGATE_ESCAPE.search(text):
        json.dumps(value, ensure_ascii=False).encode()
    return value


def write_object(members: Mapping[str, Any]) -> str:
    """Return the object as JSON in ASCII without white space."""
    return json.dumps(members, separators=(",", ":"), allow_nan=False)


def _has_more_brackets(text: str, limit: int) -> bool:
    # Not str.count, which takes 30 times as long for a large text without brackets.
    number = 0
    for bracket in "{[":
        place = text.find(bracket)
        while place >= 0:
            number += 1
            if number > limit:
                return True
            place = text.find(bracket, place + 1)
    return False


def _depth(text: str) -> int:
    """Return the deepest nesting before the first error, without recursion, because the parser itself recurses."""
    depth = deepest = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        if token[0] in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif token[0] in "]}":
            depth -= 1
    return deepest


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a JSON object has a member twice")
    return members


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
