"""Opens the stores of the receiver: in DATA_PATH, or in the database of STORE."""

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from idlib.settings import Settings
from idlib.transport import Broker
from messaging_receiver.context import Context
from messaging_receiver.ending import Ending
from messaging_receiver.health import HealthService
from messaging_receiver.own_session import OwnSession, kept_session
from messaging_receiver.service_notices import Notices
from messaging_receiver.sole_use import sole_use
from messaging_receiver.state import open_state

if TYPE_CHECKING:
    from messaging_receiver.group.membership import Membership

WAITING_FOR_RECORD: Final = "own record: waiting for the first answer from DNS"


@dataclass(frozen=True, slots=True)
class Opened:
    """The stores of the receiver, and what depends on where they are.

    Args:
        context: What the stages share.
        session: The session to subscribe with.
        health: Answers `--health`.
        membership: The lease of this receiver; None if its stores are in DATA_PATH.
    """

    context: Context
    session: OwnSession
    health: HealthService
    membership: "Membership | None" = None


def open_stores(
    settings: Settings, broker: Broker, ending: Ending, notices: Notices, stack: contextlib.ExitStack
) -> Opened | None:
    """Open the stores; return None if the receiver is stopped while it waits for the database.

    Args:
        settings: The settings from the environment.
        broker: The broker to subscribe at.
        ending: Ends the run; its time begins here.
        notices: Told the health while the receiver waits.
        stack: Closes the stores.

    Raises:
        StoreError: The stores cannot be used, or another receiver uses them.
        ClockError: The database's clock is wrong.
        ConfigurationError: The settings contradict each other, or a file that they name cannot be used.
    """
    if settings.store is None:
        context = stack.enter_context(open_state(settings, ending.stopping))
        ending.start_timer()
        # Only now, because the lock on the stores keeps a second receiver from replacing the socket.
        health = HealthService(settings.data_path, lambda: WAITING_FOR_RECORD)
        notices.health = health.answer
        return Opened(context, kept_session(context, broker), health)
    # Imported late, because it needs the library for the database.
    from messaging_receiver.group.shared_state import SharedState

    state = SharedState(settings, broker, ending.stopping)
    ending.start_timer()
    stack.enter_context(sole_use(settings.data_path))
    # Before the database answers, because that may take any time.
    health = HealthService(settings.data_path, lambda: state.problem)
    notices.health = health.answer
    shared = stack.enter_context(state.open())
    if shared is None:
        return None
    shared.membership.fail = ending.fail
    return Opened(shared.context, shared.session, health, shared.membership)
