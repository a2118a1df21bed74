import io

import pytest

from lab.page import GREEN, Page


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environment", "coloured"),
    [
        (_Terminal(), {}, True),
        (_Terminal(), {"NO_COLOR": ""}, True),
        (_Terminal(), {"NO_COLOR": "1"}, False),
        (_Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colours_are_used_only_on_terminals_that_allow_them(
    stream: io.StringIO, environment: dict[str, str], *, coloured: bool
) -> None:
    page = Page.on(stream, environment)
    page.quote("text", GREEN)
    assert ("\033[" in stream.getvalue()) is coloured


@pytest.mark.parametrize(("columns", "width"), [("10", 40), ("72", 72), ("250", 100)])
def test_the_page_is_as_wide_as_the_terminal_within_limits(
    columns: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert Page.on(io.StringIO(), {}).width == width


def test_no_line_is_longer_than_the_page() -> None:
    stream = io.StringIO()
    page = Page(stream, 40, coloured=False)
    page.title("word " * 20)
    page.heading(1, "word " * 20)
    page.say("word " * 20)
    page.command("word " * 20)
    page.quote("x" * 100)
    page.cut("y" * 100, "bytes")
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 40
    assert sum(line.count("x") for line in lines) == 100
    assert lines[-1].endswith("y… (100 bytes)")


def test_a_text_that_fits_is_not_shortened() -> None:
    stream = io.StringIO()
    Page(stream, 40, coloured=False).cut("y" * 30, "bytes")
    assert stream.getvalue() == f"   | {'y' * 30}\n"
