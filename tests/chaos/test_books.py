"""The comparison that `make chaos` ends with."""

from chaos.books import GROUP_SIZE, Books, Life, texts_of
from chaos.reports import Promise


def promise(text: str, result: str = "acknowledged") -> Promise:
    return Promise(text, "--queue", result)


def test_what_is_promised_and_never_printed_is_lost() -> None:
    promises = frozenset({promise("a"), promise("b"), promise("c", "queued")})
    books = Books(promises, (Life(("a",), was_killed=False),))
    assert books.lost == (promise("b"), promise("c", "queued"))


def test_what_was_printed_in_any_life_is_not_lost() -> None:
    lives = (Life(("a",), was_killed=True), Life(("open", "b"), was_killed=False))
    assert Books(frozenset({promise("a"), promise("b")}), lives).lost == ()


def test_promises_are_counted_by_options_and_result() -> None:
    books = Books(frozenset({promise("a"), promise("b"), promise("c", "queued")}), ())
    assert books.promised == {("--queue", "acknowledged"): 2, ("--queue", "queued"): 1}


def test_what_a_kill_repeats_is_no_replay() -> None:
    books = Books(frozenset(), (Life(("a", "b"), was_killed=True), Life(("b", "c"), was_killed=False)))
    assert (books.repeated, books.replayed, books.kills) == (1, 0, 1)


def test_what_is_printed_twice_without_a_kill_is_a_replay() -> None:
    books = Books(frozenset(), (Life(("a", "a"), was_killed=False), Life(("a",), was_killed=False)))
    assert (books.repeated, books.replayed) == (0, 2)


def test_a_kill_explains_one_repetition_of_the_last_group_alone() -> None:
    texts = tuple(map(str, range(GROUP_SIZE + 1)))
    books = Books(frozenset(), (Life(texts, was_killed=True), Life(("0", "1", "1"), was_killed=False)))
    assert (books.repeated, books.replayed) == (1, 2)


def test_texts_stand_behind_the_sender() -> None:
    assert texts_of(['"alice.example says: 1.2 says: 3"']) == ("1.2 says: 3",)
