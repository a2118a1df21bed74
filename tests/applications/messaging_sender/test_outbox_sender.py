"""When the sender accepts DNS's answer that a recipient has no certificate."""

from messaging_sender.outbox_sender import MAX_VERDICT_SECONDS, Verdicts

BOB = "bob.example"


def test_a_missing_certificate_is_final_after_a_day() -> None:
    now = [1000.0]
    verdicts = Verdicts(lambda: now[0])
    assert not verdicts.is_final(BOB)
    now[0] += MAX_VERDICT_SECONDS - 1
    assert not verdicts.is_final(BOB)
    now[0] += 1
    assert verdicts.is_final(BOB)
    assert not verdicts.is_final("carol.example")


def test_the_day_starts_again_after_another_answer_of_dns() -> None:
    now = [1000.0]
    verdicts = Verdicts(lambda: now[0])
    assert not verdicts.is_final(BOB)
    now[0] += MAX_VERDICT_SECONDS
    verdicts.take_back(BOB)
    assert not verdicts.is_final(BOB)
