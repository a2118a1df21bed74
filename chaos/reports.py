"""What send_message.py reported of its messages, by the JSON objects on its stdout."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# Each promises that the recipient prints the message; what any other says leaves that open.
PROMISES: Final = frozenset({"acknowledged", "queued", "printed"})


@dataclass(frozen=True, slots=True)
class Promise:
    """One message that send_message.py reported as sent.

    Args:
        text: Its text.
        options: The options that it was sent with.
        result: The reported result, one of `PROMISES`.
    """

    text: str
    options: str
    result: str


def promised_lines(options: str, texts: Sequence[str], stdout: Sequence[str]) -> tuple[Promise, ...]:
    """Return what was promised of the lines that one run of send_message.py was given.

    The objects are in the order of the lines. If the program was killed, the last lines have none.

    Args:
        options: The options that they were sent with.
        texts: The lines.
        stdout: The lines that it printed.

    Raises:
        ValueError: There is something on stdout that belongs to no line.
    """
    if len(stdout) > len(texts):
        raise ValueError(f"{len(stdout)} results of {len(texts)} lines, the last of them {stdout[-1]}")
    return tuple(
        Promise(text, options, report["result"])
        for text, report in zip(texts, map(json.loads, stdout), strict=False)
        if report["result"] in PROMISES
    )


def name_of_end(options: str, status: int) -> str:
    """Return what to count the end of a run of send_message.py as.

    Args:
        options: Its options.
        status: Its exit status, negative for a signal.
    """
    end = "killed" if status < 0 else f"ended with {status}"
    return f"send_message.py {options} {end}"
