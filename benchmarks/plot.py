"""Draws each measured figure beside its limits, as an SVG picture.

By hand, because a library that draws bars takes more space than all other development packages together.
"""

from collections.abc import Sequence
from html import escape
from typing import Final

from benchmarks.measurement import Measurement
from benchmarks.target import Better, Verdict

_LABEL: Final = 520
_FLOOR: Final = 240
_MOST: Final = 2.0
_ROW: Final = 30
_COLOURS: Final = {Verdict.AIM: "#2a7", Verdict.FLOOR: "#06c", Verdict.MISSED: "#c33", Verdict.NONE: "#999"}


def draw(rows: Sequence[Measurement]) -> str:
    """Return a picture with a bar for each row that has limits: how many times better than the floor it is.

    Args:
        rows: What was measured.
    """
    limited = [row for row in rows if row.target.floor]
    height = _ROW * (len(limited) + 2)
    parts = [
        f'<path d="M{_LABEL + _FLOOR} 20V{height - 10}" stroke="#333" stroke-dasharray="4"/>',
        f'<text x="{_LABEL + _FLOOR}" y="15" text-anchor="middle">floor</text>',
    ]
    for index, row in enumerate(limited):
        top = _ROW * (index + 1)
        width = _times_floor(row, row.result.median) * _FLOOR
        aim = _LABEL + _times_floor(row, row.target.aim or 0.0) * _FLOOR
        parts += [
            f'<text x="{_LABEL - 10}" y="{top + 14}" text-anchor="end">{escape(row.target.title)}</text>',
            f'<rect x="{_LABEL}" y="{top}" width="{width:.1f}" height="18" fill="{_COLOURS[row.verdict]}"/>',
            f'<path d="M{aim:.1f} {top - 3}v24" stroke="#2a7" stroke-width="2"/>',
            f'<text x="{_LABEL + 6}" y="{top + 14}" fill="#fff">{row.result.median:.3g}</text>',
        ]
    legend = f"longer is better; green mark: aim; bars end at {_MOST:g} times the floor"
    parts.append(f'<text x="{_LABEL}" y="{height}">{legend}</text>')
    size = f'width="{_LABEL + _FLOOR * _MOST + 20:.0f}" height="{height + 10}"'
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">\n{body}\n</svg>\n'


def _times_floor(row: Measurement, figure: float) -> float:
    floor = row.target.floor or figure
    ratio = figure / floor if row.target.better is Better.HIGHER else floor / max(figure, 1e-9)
    return min(ratio, _MOST)
