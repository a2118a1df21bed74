"""Programs end in time although the database is frozen: it keeps the connections, and answers nothing."""

import time
from pathlib import Path

import pytest

from testbed.daemons.postgresql import Postgresql
from testbed.lab import Lab
from testbed.programs import RECEIVER

# The promise is 5 seconds; the rest is for a busy machine.
_BOUND_SECONDS = 10.0


@pytest.mark.parametrize("group", ["on", "off"])
@pytest.mark.parametrize("frozen_seconds", [0.0, 12.0])
def test_a_receiver_ends_in_time(
    group: str, frozen_seconds: float, lab: Lab, own_postgresql: Postgresql, tmp_path: Path
) -> None:
    device = lab.published_device(f"frieda{group}{frozen_seconds:.0f}").with_settings(
        STORE=own_postgresql.new_database(),
        RECEIVER_GROUP=group,
        EPOCH_KEYS="on",
        EPOCH_PATH=str(tmp_path / "epochs"),
        EPOCH_SPOOL=str(tmp_path / "spool"),
    )
    with device.receiver() as receiver, own_postgresql.silent():
        time.sleep(frozen_seconds)

        assert receiver.stop(_BOUND_SECONDS) == 0


def test_a_receiver_that_is_started_without_an_answer_ends_in_time(lab: Lab, own_postgresql: Postgresql) -> None:
    device = lab.published_device("fritz").with_settings(STORE=own_postgresql.new_database())
    with own_postgresql.silent(), device.start(RECEIVER) as receiver:
        receiver.wait_for_log("Messages wait for the database")
        assert receiver.stop(_BOUND_SECONDS) == 0
        assert not [line for line in receiver.stderr if "Traceback" in line]
