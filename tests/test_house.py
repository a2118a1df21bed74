"""Which package may import which: the order of idlib's parts, and of the packages above it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import idlib

ROOT: Final = Path(idlib.__file__).parents[1]
ORDER: Final = re.findall(r"`(\w+)`", (idlib.__doc__ or "").partition("each imports")[2].partition("`Bootstrap`")[0])
# Each package of the distribution, and the others that it may import.
PACKAGES: Final = {
    "idlib": set(),
    "messaging_maintenance": {"idlib"},
    "messaging_sender": {"idlib"},
    "messaging_receiver": {"idlib"},
    "dane_messenger": {"idlib", "messaging_maintenance", "messaging_sender", "messaging_receiver"},
    "build_hooks": {"idlib", "dane_messenger"},
    "release": set(),
    "testbed": {"idlib", "messaging_maintenance", "messaging_sender", "messaging_receiver", "release"},
}
OTHERS: Final = {"lab", "testbed", "tests", "chaos", "fuzz", "hostile", "benchmarks", *PACKAGES}


def imported_modules(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(module=str(module), names=names):
                yield from (f"{module}.{name.name}" for name in names)
            case ast.Import(names=names):
                yield from (name.name for name in names)


def files_of(part: str) -> list[Path]:
    path = ROOT / "idlib" / part
    return [path.with_suffix(".py")] if path.with_suffix(".py").exists() else sorted(path.rglob("*.py"))


def test_every_part_of_idlib_is_in_the_order() -> None:
    parts = {
        path.stem for path in (ROOT / "idlib").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert sorted(ORDER) == sorted(parts - {"__init__"})


@pytest.mark.parametrize("part", ORDER)
def test_a_part_of_idlib_imports_only_from_those_before_it(part: str) -> None:
    assert files_of(part)
    allowed = {*ORDER[: ORDER.index(part) + 1], "__version__"}
    for file in files_of(part):
        imported = {name.split(".")[1] for name in imported_modules(file.read_text()) if name.startswith("idlib.")}
        assert imported <= allowed, file


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_it_may(package: str) -> None:
    assert list((ROOT / package).rglob("*.py"))
    for file in (ROOT / package).rglob("*.py"):
        imported = {name.split(".")[0] for name in imported_modules(file.read_text())} & OTHERS
        assert imported <= {package, *PACKAGES[package]}, file
