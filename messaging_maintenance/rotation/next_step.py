"""The next step of a rotation, and from when it is safe, as the state on disk says."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from idlib.commands import command
from messaging_maintenance.rotation.schedule import Instant, Waits
from messaging_maintenance.rotation.state import RotationState, Stage, Way


@dataclass(frozen=True, slots=True)
class NextStep:
    """What a rotation waits for.

    Args:
        command: The word on the command line that takes the step.
        what: What the step does, in words that follow "to".
        safe_at: From when it is safe, in seconds since the epoch; None if it is safe now or waits for something else.
    """

    command: str
    what: str
    safe_at: float | None = None


def next_step_of(state: RotationState, waits: Waits, now: Instant) -> NextStep:
    """Return what a rotation waits for.

    Args:
        state: How far it has come.
        waits: How long each step has to wait.
        now: The present.
    """
    wait = _wait_of(state, waits)
    left = wait - state.waited(now)
    return NextStep(_command_word(state), _what(state), now.wall + left if wait and left > 0 else None)


def recounted_step_of(state: RotationState, waits: Waits, now: Instant) -> NextStep:
    """Return the same, with the waiting time counted by the clock as it is set now.

    Args:
        state: How far the rotation has come.
        waits: How long each step has to wait.
        now: The present.
    """
    return next_step_of(replace(state, since=now.recount(state.since)), waits, now)


def command_of(state: RotationState) -> str:
    """Return the command that takes the next step.

    Args:
        state: How far the rotation has come.
    """
    word = _command_word(state)
    option = f" --{state.way}" if word == "start" and state.way is not Way.OVERLAP else ""
    return rotate_command(f"{word}{option}")


def rotate_command(step: str) -> str:
    """Return a command on a rotation as the user types it.

    Args:
        step: The words after the program.
    """
    return f"{command('identity rotate')} {step}"


def run_again(command: str, safe_at: float) -> str:
    """Return the hint that a step is to be taken later.

    Args:
        command: The word on the command line that takes it.
        safe_at: From when it is safe, in seconds since the epoch.
    """
    return f"run {rotate_command(command)} again after {shown_time(safe_at)}"


def shown_time(seconds: float) -> str:
    """Return a time in UTC, rounded up to a minute, because a step is refused until then.

    Args:
        seconds: Since the epoch.
    """
    return f"{datetime.fromtimestamp(seconds, UTC) + timedelta(seconds=59.999):%Y-%m-%d %H:%M} UTC"


def _command_word(state: RotationState) -> str:
    match state.stage:
        case Stage.REQUESTED:
            return "certificate"
        case Stage.PREPARED:
            return "start"
        case Stage.REPLACING:
            return "start" if state.way is Way.COMPROMISED else "switch"
        case Stage.PUBLISHED | Stage.LOWERED | Stage.SWITCHING:
            return "switch"
        case Stage.SWITCHED | Stage.WITHDRAWN:
            return "finish"


def _what(state: RotationState) -> str:
    match state.stage:
        case Stage.REQUESTED:
            return "install the certificate of the next key"
        case Stage.PREPARED:
            return "publish the record of the next key"
        case Stage.PUBLISHED | Stage.SWITCHING:
            return "sign with the new key"
        case Stage.LOWERED | Stage.REPLACING:
            return "replace the record and the key"
        case Stage.SWITCHED:
            return "remove the old record"
        case Stage.WITHDRAWN:
            return "destroy the private key that is out of use"


def _wait_of(state: RotationState, waits: Waits) -> float:
    """Return how long the next step has to wait after the stage was reached, in seconds."""
    match state.stage:
        case Stage.PUBLISHED:
            return waits.until_switch(state.ttl)
        case Stage.LOWERED:
            return waits.until_known(state.ttl)
        case Stage.SWITCHED:
            return waits.until_withdrawal()
        case Stage.WITHDRAWN:
            return waits.until_destruction(state.ttl)
        case Stage.REQUESTED | Stage.PREPARED | Stage.SWITCHING | Stage.REPLACING:
            return 0.0
