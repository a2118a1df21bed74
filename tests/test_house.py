"""The rooms of idlib, held to their order: each imports only from those before it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import idlib

ROOT = Path(idlib.__file__).parent
ORDER = re.findall(r"`(\w+)`", (idlib.__doc__ or "").partition("each importing")[2].partition("`Bootstrap`")[0])
ROOMS = sorted(path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists())


def imported_rooms(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(module="idlib", names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(module)) if module.startswith("idlib."):
                yield module.split(".")[1]
            case ast.Import(names=names):
                yield from (name.name.split(".")[1] for name in names if name.name.startswith("idlib."))


def test_every_room_has_its_place() -> None:
    assert sorted(ORDER) == [room for room in ROOMS if room != "__init__"]


@pytest.mark.parametrize("room", ORDER)
def test_a_room_imports_only_from_those_before_it(room: str) -> None:
    files = [ROOT / f"{room}.py"] if (ROOT / f"{room}.py").exists() else list((ROOT / room).glob("*.py"))
    assert files
    below = ORDER[: ORDER.index(room)]
    for file in files:
        assert set(imported_rooms(file.read_text())) - {room} <= set(below), file.name
