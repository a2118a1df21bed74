"""Connections through a proxy that answers in pieces, slowly, or with something else."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

import pytest

from idlib.settings import ProxyScheme, ProxyUrl
from idlib.transport.dialing import DialError
from idlib.transport.proxy import connect_through
from testbed.daemons.process import LOOPBACK

BROKER: Final = ("broker.example.test", 1883)
ACCEPTED: Final = b"HTTP/1.1 200 OK\r\nVia: proxy\r\n\r\n"
# What the broker says first.
GREETING: Final = b"greeting"
TIMEOUT_SECONDS: Final = 0.5


@contextmanager
def proxy(scheme: ProxyScheme, pieces: Sequence[bytes], pause: float) -> Iterator[ProxyUrl]:
    """Run a proxy that answers the first request in pieces, whatever it is, and yield its URL."""
    with socket.create_server((LOOPBACK, 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    connection.recv(1000)
                    for piece in pieces:
                        connection.sendall(piece)
                        time.sleep(pause)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield ProxyUrl(scheme, LOOPBACK, listener.getsockname()[1])
        finally:
            thread.join()


@pytest.mark.parametrize(
    "pieces",
    [(ACCEPTED[:17], ACCEPTED[17:]), (ACCEPTED[:4], ACCEPTED[4:-1], ACCEPTED[-1:]), (ACCEPTED,)],
    ids=["header apart", "three pieces", "at once"],
)
def test_an_answer_in_pieces_is_read_to_its_end_and_no_further(pieces: tuple[bytes, ...]) -> None:
    *first, last = pieces
    with (
        proxy(ProxyScheme.HTTP, [*first, last + GREETING], 0.05) as url,
        connect_through(url, None, BROKER, 10) as connection,
    ):
        assert connection.recv(100) == GREETING


@pytest.mark.parametrize(
    ("scheme", "begin"),
    [(ProxyScheme.HTTP, b"HTTP/1.1 200 "), (ProxyScheme.SOCKS5, b"\5\0\5\0\0\3\xff")],
    ids=["http", "socks5"],
)
def test_a_proxy_that_answers_byte_by_byte_does_not_get_more_time(scheme: ProxyScheme, begin: bytes) -> None:
    with proxy(scheme, [begin, *([b"a"] * 20)], TIMEOUT_SECONDS / 5) as url:
        start = time.monotonic()
        with pytest.raises(DialError, match=r"does not answer within 0\.5 s"):
            connect_through(url, None, BROKER, TIMEOUT_SECONDS)
        assert time.monotonic() - start < 3 * TIMEOUT_SECONDS


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 " + b"9" * 4000 + b" OK\r\n\r\n", b"SIP/2.0 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"a" * 20_000],
    ids=["status of thousands of digits", "another protocol", "endless header"],
)
def test_an_answer_that_is_not_one_of_http_is_refused(answer: bytes) -> None:
    with (
        proxy(ProxyScheme.HTTP, [answer], 0) as url,
        pytest.raises(DialError, match=r"does not answer as an HTTP proxy does$"),
    ):
        connect_through(url, None, BROKER, 10)


@pytest.mark.parametrize(
    ("scheme", "user", "password"),
    [
        (ProxyScheme.HTTP, "al:ice", "secret"),
        (ProxyScheme.HTTP, "alice", "s€cret"),
        (ProxyScheme.SOCKS5, "alice", "sécret"),
        (ProxyScheme.SOCKS5, "alicé", "secret"),
    ],
    ids=["colon over http", "password over http", "password over socks5", "user over socks5"],
)
def test_a_login_that_cannot_be_sent_is_explained_without_showing_it(
    scheme: ProxyScheme, user: str, password: str
) -> None:
    with pytest.raises(DialError, match="has characters that cannot be sent to it") as caught:
        connect_through(ProxyUrl(scheme, LOOPBACK, 1, user), password, BROKER, 1)
    assert "ASCII characters" in caught.value.hint
    assert user not in str(caught.value)
