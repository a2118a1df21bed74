"""The comparison that `make chaos` ends with."""

from chaos.books import GROUP_SIZE, Books, Life, texts_of


def test_what_is_acknowledged_and_never_printed_is_lost() -> None:
    books = Books(frozenset({"a", "b"}), (Life(("a",), was_killed=False),))
    assert books.lost == ("b",)


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
