"""The comparison at the end of `make chaos`: what was reported as sent, and what was printed."""

from chaos.delivery_report import GROUP_SIZE, DeliveryReport, ReceiverRun, texts_of
from chaos.reports import Promise


def promise(text: str, result: str = "acknowledged") -> Promise:
    return Promise(text, "--queue", result)


def test_a_message_reported_as_sent_and_never_printed_is_lost() -> None:
    promises = frozenset({promise("a"), promise("b"), promise("c", "queued")})
    report = DeliveryReport(promises, (ReceiverRun(("a",), was_killed=False),))
    assert report.lost == (promise("b"), promise("c", "queued"))


def test_a_message_printed_in_any_run_is_not_lost() -> None:
    runs = (ReceiverRun(("a",), was_killed=True), ReceiverRun(("open", "b"), was_killed=False))
    assert DeliveryReport(frozenset({promise("a"), promise("b")}), runs).lost == ()


def test_promises_are_counted_by_options_and_result() -> None:
    report = DeliveryReport(frozenset({promise("a"), promise("b"), promise("c", "queued")}), ())
    assert report.promised == {("--queue", "acknowledged"): 2, ("--queue", "queued"): 1}


def test_a_line_repeated_because_of_a_kill_is_not_a_replay() -> None:
    report = DeliveryReport(
        frozenset(), (ReceiverRun(("a", "b"), was_killed=True), ReceiverRun(("b", "c"), was_killed=False))
    )
    assert (report.repeated, report.replayed, report.kills) == (1, 0, 1)


def test_a_line_printed_twice_without_a_kill_is_a_replay() -> None:
    report = DeliveryReport(
        frozenset(), (ReceiverRun(("a", "a"), was_killed=False), ReceiverRun(("a",), was_killed=False))
    )
    assert (report.repeated, report.replayed) == (0, 2)


def test_a_kill_explains_only_one_repetition_of_the_last_group() -> None:
    texts = tuple(map(str, range(GROUP_SIZE + 1)))
    report = DeliveryReport(
        frozenset(), (ReceiverRun(texts, was_killed=True), ReceiverRun(("0", "1", "1"), was_killed=False))
    )
    assert (report.repeated, report.replayed) == (1, 2)


def test_the_text_is_what_follows_the_sender() -> None:
    assert texts_of(['"alice.example says: 1.2 says: 3"']) == ("1.2 says: 3",)
