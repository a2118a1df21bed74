"""The topic of a name, with a prefix and in both forms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.names import MAX_NAME_BYTES, IdentityName
from idlib.settings import TopicFormat, UnfitValueError
from idlib.transport.publication import Publication
from idlib.transport.topics import Topics, is_same_topic

NAME = IdentityName("Alice._device.example.com")
NAMES = st.lists(st.from_regex(r"[a-z0-9_]([a-z0-9_-]{0,4}[a-z0-9_])?", fullmatch=True), min_size=2, max_size=6).map(
    lambda labels: IdentityName(".".join(labels))
)


@pytest.mark.parametrize(
    ("prefix", "form", "topic"),
    [
        ("", TopicFormat.DOTS, "alice._device.example.com"),
        ("", TopicFormat.SLASHES, "alice/_device/example/com"),
        ("fleet/", TopicFormat.DOTS, "fleet/alice._device.example.com"),
        ("fleet", TopicFormat.DOTS, "fleetalice._device.example.com"),
        ("fleet.1/", TopicFormat.SLASHES, "fleet.1/alice/_device/example/com"),
        ("ü /", TopicFormat.DOTS, "ü /alice._device.example.com"),
    ],
)
def test_a_topic_is_the_prefix_and_the_name(prefix: str, form: TopicFormat, topic: str) -> None:
    assert Topics(prefix, form).of(NAME) == topic
    assert Topics(prefix, form).of(NAME.text) == topic


def test_without_settings_the_topic_is_the_name() -> None:
    assert Topics().of(NAME) == NAME.text


@pytest.mark.parametrize("prefix", ["+/", "a/#", "$SYS/", "a\0", "a\n", "\ud800", "\ufffe", "x" * 1025, "ü" * 513])
def test_a_prefix_that_no_topic_can_begin_with_is_rejected(prefix: str) -> None:
    with pytest.raises(UnfitValueError):
        Topics(prefix)


@pytest.mark.parametrize("form", list(TopicFormat))
def test_the_longest_topic_is_one_that_mqtt_can_transmit(form: TopicFormat) -> None:
    label = "a" * 62 + "."
    name = IdentityName((label * 5)[:MAX_NAME_BYTES].rstrip("."))
    assert len(Topics("ü" * 512, form).of(name).encode()) < 65535


@given(NAMES, NAMES, st.sampled_from(list(TopicFormat)))
def test_different_names_have_different_topics(one: IdentityName, other: IdentityName, form: TopicFormat) -> None:
    topics = Topics("fleet/", form)
    assert (topics.of(one) == topics.of(other)) == (one == other)
    assert not set(topics.of(one)) & set("+#\0")


@pytest.mark.parametrize("form", list(TopicFormat))
def test_the_size_of_a_packet_includes_the_whole_topic(form: TopicFormat) -> None:
    plain = Publication(Topics("", form).of(NAME), b"", 1)
    prefixed = Publication(Topics("flotte-ü/", form).of(NAME), b"", 1)
    assert plain.size == Publication(NAME.text, b"", 1).size
    assert prefixed.size - plain.size == len("flotte-ü/".encode())


@pytest.mark.parametrize(
    ("topic", "is_same"),
    [
        (b"fleet/alice._device.example.com", True),
        (b"fleet/alice/_device/example/com", True),
        (b"fleet.alice._device.example.com", True),
        (b"fleet/alice._device.example.org", False),
        (b"alice._device.example.com", False),
        (b"fleet/alice-_device.example.com", False),
        (b"", False),
        (b"\xff", False),
    ],
)
def test_a_broker_may_exchange_dots_and_slashes(topic: bytes, is_same: bool) -> None:  # noqa: FBT001
    assert is_same_topic(topic, "fleet/alice._device.example.com") == is_same
    assert is_same_topic(topic, "fleet/alice/_device/example/com") == is_same
