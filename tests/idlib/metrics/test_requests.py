"""What the metrics port answers to any bytes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.metrics.requests import MAX_REQUEST_BYTES, answer, is_complete

PAGE = b"a 1\n"


def page() -> bytes:
    return PAGE


def status_of(response: bytes) -> int:
    head, _, body = response.partition(b"\r\n\r\n")
    status, *headers = head.decode("ascii").split("\r\n")
    assert re.fullmatch(r"HTTP/1\.1 [2-5]\d\d [A-Za-z ]+", status)
    assert f"Content-Length: {len(body)}" in headers
    assert "Connection: close" in headers
    assert (body == PAGE) == status.startswith("HTTP/1.1 200 ")
    return int(status.split()[1])


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET /metrics?name=b HTTP/1.0\n\n", 200),
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/ HTTP/1.1\r\n\r\n", 404),
        (b"GET //metrics HTTP/1.1\r\n\r\n", 404),
        (b"POST / HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", 405),
        (b"get /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/2.0\r\n\r\n", 400),
        (b"GET http://a/metrics HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"GET /metrics\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\n" + b"a" * MAX_REQUEST_BYTES, 431),
    ],
)
def test_each_request_has_its_status(request_: bytes, status: int) -> None:
    assert is_complete(request_)
    assert status_of(answer(request_, page)) == status


@given(st.binary(max_size=64) | st.binary(max_size=32).map(lambda rest: b"GET /metrics HTTP/1.1" + rest))
def test_any_bytes_have_an_answer(received: bytes) -> None:
    assert status_of(answer(received, page)) in {200, 400, 404, 405}


@pytest.mark.parametrize("received", [b"", b"GET /metrics HTTP/1.1\r\n", b"a" * MAX_REQUEST_BYTES])
def test_a_request_that_may_continue_is_waited_for(received: bytes) -> None:
    assert not is_complete(received)


def test_only_the_page_is_made_if_it_is_asked_for() -> None:
    def fail() -> bytes:
        raise AssertionError

    assert status_of(answer(b"GET /other HTTP/1.1\r\n\r\n", fail)) == 404


def test_a_page_that_cannot_be_made_is_an_internal_error() -> None:
    assert status_of(answer(b"GET /metrics HTTP/1.1\r\n\r\n", lambda: None)) == 500
