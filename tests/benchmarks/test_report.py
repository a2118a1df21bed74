"""What `make bench` writes: a table and a picture in a document whose other text stays."""

import re
import xml.etree.ElementTree as ET

from benchmarks.machine import describe
from benchmarks.measurement import Measurement, Sample
from benchmarks.plot import draw
from benchmarks.report import updated
from benchmarks.target import Better, Target
from tests import documents

DOCUMENT = "# Title\n\n<!-- written by make bench -->\nold table\n<!-- end -->\n\nChosen by hand.\n"
ROWS = [
    Measurement(Target("fast & small", "messages/s", "", Better.HIGHER, 0.5, 0.6), Sample((0.7,))),
    Measurement(Target("slow", "ms", "", Better.LOWER, 5, 2), Sample((9.0,))),
    Measurement(Target("without a limit", "bytes", "", Better.LOWER), Sample((9.0,))),
]


def test_the_table_is_replaced_and_everything_else_stays() -> None:
    written = updated(DOCUMENT, "two processors", ROWS)
    assert written.startswith("# Title\n\n<!-- written by make bench -->\n```\ntwo processors\n```\n")
    assert "old table" not in written
    assert "| slow | 9 ms |  | 9 (9 to 9) | 5 | 2 | missed |" in written
    assert written.endswith("<!-- end -->\n\nChosen by hand.\n")
    assert updated(written, "two processors", ROWS) == written


def test_the_document_of_the_checkout_has_the_place_for_the_table() -> None:
    document = (documents.ROOT / "docs/performance.md").read_text()
    assert "two processors" in updated(document, "two processors", ROWS)


def test_the_document_of_the_checkout_names_a_machine_and_the_libraries() -> None:
    machine, libraries = documents.block("docs/performance.md", "written by make bench").splitlines()
    assert re.fullmatch(r"\d+ processors, .+; \w+ \S+", machine)
    named = re.compile(r"([\w-]+) \d")
    assert named.findall(libraries) == named.findall(describe().splitlines()[1])


def test_the_picture_has_a_bar_for_each_row_with_limits_and_is_longer_if_better() -> None:
    picture = ET.fromstring(draw(ROWS))
    widths = [float(bar.attrib["width"]) for bar in picture.iter("{http://www.w3.org/2000/svg}rect")]
    assert len(widths) == 2
    assert widths[0] > widths[1] > 0
    assert "fast & small" in [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
