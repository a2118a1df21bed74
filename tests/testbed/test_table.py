import pytest

from testbed.table import print_table


def test_numbers_are_right_aligned_and_texts_left_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(
        ("kind", "median", "note"),
        [("short", "9.5", "a"), ("a long name", "12.5 (9 to 15)", ""), ("none", "", "not measured"), ("x", "inf", "")],
    )
    assert capsys.readouterr().out.splitlines() == [
        "kind                  median   note",
        "short                    9.5   a",
        "a long name   12.5 (9 to 15)",
        "none                           not measured",
        "x                        inf",
    ]


def test_a_table_without_rows_is_its_heading(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("kind", "median"), [])
    assert capsys.readouterr().out == "kind   median\n"


def test_a_row_with_too_few_cells_is_rejected() -> None:
    with pytest.raises(ValueError, match="zip"):
        print_table(("kind", "median"), [("short",)])
