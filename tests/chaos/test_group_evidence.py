"""The verdict about a group of receivers: it finds what is lost, repeated too often, and left behind."""

from chaos.delivery_report import GROUP_SIZE
from chaos.group.evidence import GroupReport, GroupRun, Window


def texts(number: int, first: int = 0) -> tuple[str, ...]:
    return tuple(f"t{index}" for index in range(first, first + number))


def report(*runs: GroupRun, acknowledged: tuple[str, ...] = ("a",), **changes: object) -> GroupReport:
    published = frozenset(acknowledged) | {text for run in runs for text in run.printed}
    members = {"published": published, "database_kills": 0, "halts": 0, "leftovers": (), "ends": (), **changes}
    return GroupReport(frozenset(acknowledged), runs=runs, **members)  # type: ignore[arg-type]


def run(*printed: str, was_killed: bool = False, outages: tuple[Window, ...] = ()) -> GroupRun:
    return GroupRun(printed, was_killed, outages)


def test_a_group_that_has_printed_everything_once_has_passed() -> None:
    assert report(run("a", "b"), run("c"), acknowledged=("a", "b", "c")).failures == ()


def test_an_acknowledged_message_that_no_receiver_printed_is_lost() -> None:
    found = report(run("a"), run("c"), acknowledged=("a", "b", "c"))
    assert found.lost == ("b",)
    assert found.failures == ("1 messages acknowledged and never printed: b",)


def test_a_line_that_nobody_has_published_is_a_failure() -> None:
    found = report(run("a", "x"), published=frozenset({"a"}))
    assert found.failures == ("1 messages printed and never published: x",)


def test_a_line_printed_by_two_receivers_is_a_replay_if_nothing_was_killed() -> None:
    found = report(run("a"), run("a"))
    assert found.replayed == ("a",)
    assert "1 messages printed again although no kill explains it: a" in found.failures
    assert "1 lines repeated, and only 0 allowed" in found.failures


def test_the_last_group_of_a_killed_receiver_may_be_printed_once_more() -> None:
    printed = texts(GROUP_SIZE + 1)
    killed = run(*printed, was_killed=True)
    assert report(killed, run(*printed[1:]), acknowledged=printed).failures == ()
    assert report(killed, run(*printed), acknowledged=printed).replayed == ("t0",)
    assert report(killed, run("t1"), run("t1"), acknowledged=printed).replayed == ("t1",)


def test_what_was_printed_when_the_database_was_killed_may_be_printed_once_more() -> None:
    printed = texts(4 * GROUP_SIZE)
    outage = Window(2 * GROUP_SIZE, 2 * GROUP_SIZE + 1)
    there = run(*printed, outages=(outage,))
    near = printed[GROUP_SIZE : 2 * GROUP_SIZE]
    assert report(there, run(*near), acknowledged=printed, database_kills=1).failures == ()
    for far in (printed[GROUP_SIZE - 1], printed[3 * GROUP_SIZE + 1]):
        assert report(there, run(far), acknowledged=printed, database_kills=1).replayed == (far,)


def test_more_repeats_than_a_group_for_each_kill_are_a_failure() -> None:
    printed = texts(4 * GROUP_SIZE)
    there = run(*printed, outages=(Window(GROUP_SIZE, 3 * GROUP_SIZE),))
    again = printed[: GROUP_SIZE + 1]
    found = report(there, run(*again), acknowledged=printed, database_kills=1)
    assert found.replayed == ()
    assert found.failures == (f"{GROUP_SIZE + 1} lines repeated, and only {GROUP_SIZE} allowed",)


def test_a_halted_receiver_may_cause_the_repeats_of_one_group() -> None:
    printed = texts(GROUP_SIZE)
    halted = run(*printed, outages=(Window(GROUP_SIZE, GROUP_SIZE),))
    assert report(halted, run(*printed), acknowledged=printed, halts=1).failures == ()
    assert report(halted, run(*printed), acknowledged=printed, halts=0).failures == (
        f"{GROUP_SIZE} lines repeated, and only 0 allowed",
    )


def test_what_is_left_behind_is_a_failure() -> None:
    assert report(run("a"), leftovers=("a lease holds messages",)).failures == ("a lease holds messages",)


def test_a_receiver_that_ended_by_itself_is_a_failure() -> None:
    assert report(run("a"), ends=("a receiver ended with status 1",)).failures == ("a receiver ended with status 1",)


def test_a_run_that_tested_nothing_has_failed() -> None:
    assert report(run(), acknowledged=()).failures == ("nothing was acknowledged, so nothing was tested",)


def test_only_the_first_of_many_lost_messages_are_named() -> None:
    (line,) = report(acknowledged=texts(100)).failures
    assert line.startswith("100 messages acknowledged and never printed: t0 ")
    assert line.endswith(" …")
