"""The Forwarder stage: from AUTHENTICATED_MESSAGES to stdout, and then back to the broker and the store."""

import logging
import queue
import sys
from collections.abc import Sequence
from typing import Final

from messages import AuthenticatedMessage, SettledMessage
from pipeline import Pipeline

from idlib.errors import StoreError

_LOG = logging.getLogger(__name__)

GROUP_SIZE: Final = 32
_STORE_RETRY_SECONDS: Final = 1.0


def message_printer(pipeline: Pipeline) -> None:
    """Print each authenticated message as one line, make durable that it was, and acknowledge it.

    What has come in by then goes as one group, of 32 at most, for one durable write: a crash repeats at worst the lines
    of one group. When the receiver stops, what is authenticated is still printed.

    Args:
        pipeline: Where messages come from.
    """
    while True:
        group = _next_group(pipeline)
        if group:
            _finish(pipeline, group)
        elif pipeline.stopping.is_set():
            return


def _next_group(pipeline: Pipeline) -> Sequence[AuthenticatedMessage | SettledMessage]:
    first = pipeline.take(pipeline.authenticated)
    group = [] if first is None else [first]
    while group and len(group) < GROUP_SIZE:
        try:
            group.append(pipeline.authenticated.get_nowait())
        except queue.Empty:
            break
    return group


def _finish(pipeline: Pipeline, group: Sequence[AuthenticatedMessage | SettledMessage]) -> None:
    printed = [message for message in group if isinstance(message, AuthenticatedMessage)]
    if printed:
        sys.stdout.write("".join(f"{message.line}\n" for message in printed))
        sys.stdout.flush()
    if _made_durable(pipeline, group, printed):
        pipeline.counters.count_printed(len(printed))
        for message in group:
            if message.origin.delivery is not None:
                pipeline.settle(message.origin.delivery)


def _made_durable(
    pipeline: Pipeline,
    group: Sequence[AuthenticatedMessage | SettledMessage],
    printed: Sequence[AuthenticatedMessage],
) -> bool:
    numbers = [message.origin.waiting_number for message in group if message.origin.waiting_number is not None]
    while True:
        try:
            if printed or numbers:
                pipeline.guard.finish([message.entry for message in printed], numbers)
        except StoreError as error:
            _LOG.error("%s", error)
            if pipeline.stopping.wait(_STORE_RETRY_SECONDS):
                return False
        else:
            return True
