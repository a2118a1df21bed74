"""Whether the kernel says that the clock is set; `chain` compares it with signatures."""

from idlib.system import clock
from messaging_maintenance.checks.result import Item, ok, warn


def check_clock() -> list[Item]:
    """Return what the kernel says about the clock (adjtimex(2))."""
    if clock.is_synchronized():
        return [ok("clock.synchronized", "the kernel reports that the clock is synchronized")]
    return [
        warn(
            "clock.synchronized",
            "the kernel does not report that the clock is synchronized to a time source",
            "run a time service such as systemd-timesyncd or chrony; in a container, on its host",
        )
    ]
