"""What the Dockerfile itself shows; tests/containers checks the contents of the images."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
DOCKERFILE: Final = (ROOT / "Dockerfile").read_text()
PACKAGES: Final = ("dane_messenger", "idlib", "messaging_maintenance", "messaging_receiver", "messaging_sender")
TARGETS: Final = ("maintenance", "messaging_sender", "messaging_receiver", "resolver")


def stages() -> dict[str, str]:
    parts = re.split(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    return dict(zip(parts[2::3], parts[3::3], strict=True))


def test_the_base_images_are_arguments() -> None:
    bases = re.findall(r"^FROM (\S+) AS \S+$", DOCKERFILE, flags=re.MULTILINE)
    assert {base for base in bases if base not in stages()} == {"${PYTHON_IMAGE}", "${DEBIAN_IMAGE}"}


@pytest.mark.parametrize("target", TARGETS)
def test_no_image_runs_as_root(target: str) -> None:
    users = re.findall(r"^USER (.+)$", stages()[target], flags=re.MULTILINE)
    assert users == ["${APP_UID}:${APP_UID}"]


def test_each_image_has_a_health_check() -> None:
    assert "HEALTHCHECK" in stages()["service"]
    assert "HEALTHCHECK" in stages()["resolver"]


def test_packages_are_installed_from_the_lock_as_wheels_with_hashes() -> None:
    installs = re.findall(r"pip install (.*?) -r (\S+)", DOCKERFILE.replace("\\\n", ""))
    assert [file for _, file in installs] == [
        "/tmp/compile.txt",
        "/tmp/runtime.txt",
        "/tmp/postgresql.txt",
        "/tmp/build.txt",
    ]
    for options, _ in installs:
        assert {"--no-deps", "--require-hashes", "--only-binary=:all:"} <= set(options.split())


def test_what_a_database_needs_is_in_a_layer_of_its_own_and_only_on_request() -> None:
    stage = stages()["store_packages"]
    assert "ARG STORE_ENGINE=sqlite\n" in stage
    assert re.search(r"^ +sqlite\) ;;", stage, re.MULTILINE)
    assert "--prefix=/store_packages" in stage.partition("postgresql)")[2]
    assert "COPY --from=store_packages /store_packages /usr/local\n" in stages()["python"]


def test_only_cffi_is_compiled_and_only_on_32_bit_arm() -> None:
    stage = stages()["packages"]
    assert re.findall(r"--no-binary=(\S+)", stage) == ["cffi"]
    condition, _, commands = stage.partition('if [ "$(dpkg --print-architecture)" = armhf ]; then')
    assert "--no-binary" not in condition
    assert "--no-binary=cffi" in commands.partition("fi\n")[0]


def test_what_compiles_is_locked() -> None:
    lock = (ROOT / "requirements/compile.txt").read_text()
    assert re.findall(r"^(\w+)==", lock, flags=re.MULTILINE) == ["setuptools"]
    assert lock.count("--hash=sha256:") == 2


def imports(node: ast.AST) -> Iterator[str]:
    """Yield the modules of others that are imported somewhere in a part of a module."""
    for each in ast.walk(node):
        match each:
            case ast.ImportFrom(module=str(module)):
                yield module
            case ast.Import(names=names):
                yield from (name.name for name in names)


def test_the_bytecode_of_what_is_imported_late_is_in_the_images() -> None:
    early, late = set(), set()
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        tree = ast.parse(path.read_text())
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        late |= {module for function in functions for module in imports(function)}
        early |= {
            module for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom) for module in imports(node)
        }
    of_others = {module for module in late - early if module.partition(".")[0] not in PACKAGES}
    assert of_others
    assert of_others <= set(re.findall(r"[\w.]+", stages()["bytecode"]))


def test_older_engines_can_build_it() -> None:
    assert not re.search(r"^\s*#\s*syntax=", DOCKERFILE)
    assert not re.search(r"<<-?['\"]?[A-Z]", DOCKERFILE)
    assert "--mount" not in DOCKERFILE
    assert "--chmod" not in DOCKERFILE


def test_only_listed_files_are_sent_to_a_build() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line for line in lines if line.startswith("!")} == {
        "!LICENSE",
        "!README.md",
        "!applications",
        "!dane_messenger",
        "!idlib",
        "!messaging_maintenance",
        "!messaging_receiver",
        "!messaging_sender",
        "!pyproject.toml",
        "!requirements/build.txt",
        "!requirements/compile.txt",
        "!requirements/postgresql.txt",
        "!requirements/runtime.txt",
        "!resolver",
    }
