"""The wheel, installed with pipx and with uv, and built from the source distribution."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import idlib
from build_hooks.completion import completion_scripts
from build_hooks.manual import man_pages
from dane_messenger.completion import SCRIPTS
from testbed.programs import ROOT

NAME = "alice._device.example.test"
SHARED = sorted([*completion_scripts(), *man_pages()])


def build(checkout: Path, target: str, directory: Path) -> Path:
    """Build a distribution of a checkout in a directory, and return it."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(directory)]
    subprocess.run(command, cwd=checkout, capture_output=True, check=True)
    (built,) = directory.glob("dane_mqtt_messenger-*")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory into which pipx has installed the wheel, with the packages that its metadata requires."""
    directory = tmp_path_factory.mktemp("pipx")
    places = {
        "PIPX_HOME": str(directory / "home"),
        "PIPX_BIN_DIR": str(directory / "bin"),
        "PIPX_MAN_DIR": str(directory / "man"),
        "PIPX_COMPLETION_DIR": str(directory / "completion"),
    }
    command = [sys.executable, "-m", "pipx", "install", "--python", sys.executable, str(wheel)]
    ended = subprocess.run(command, env={**os.environ, **places}, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return directory


@pytest.fixture(scope="module")
def environment(installed: Path) -> Path:
    """Return the virtual environment that pipx has created."""
    return installed / "home" / "venvs" / "dane-mqtt-messenger"


def run(environment: Path, program: str, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(environment / "bin" / program), *arguments],
        cwd=environment,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_is_installed(environment: Path, tmp_path: Path) -> None:
    assert run(environment, "dane-messenger", "--version").stdout == f"dane-messenger {idlib.__version__}\n"
    identity = {"IDENTITY_NAME": NAME, "CRYPTO_PATH": str(tmp_path / "identity"), "APP_UID": str(os.getuid())}
    assert run(environment, "dane-messenger", "identity", "create", **identity).returncode == 0
    printed = run(environment, "dane-messenger", "identity", "tlsa", **identity)
    assert printed.stdout.startswith(f"TLSA record for {NAME}: 3 0 0 ")
    sent = run(
        environment,
        "dane-messenger",
        "send",
        "bob._device.example.test",
        "hello",
        DNS_RESOLVER="127.0.0.1:9",
        **identity,
    )
    assert sent.returncode == 2
    assert "Traceback" not in sent.stderr


def test_the_command_and_its_man_pages_are_where_shell_and_man_look(installed: Path) -> None:
    command = [str(installed / "bin" / "dane-messenger"), "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[1] == idlib.__version__
    shown = subprocess.run(
        ["man", "--manpath", str(installed / "man"), "dane-messenger-send"],
        env={**os.environ, "LC_ALL": "C.UTF-8", "MANPAGER": "cat"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--queue" in shown.stdout


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_command_prints_the_completion_script(shell: str, environment: Path) -> None:
    printed = run(environment, "dane-messenger", "completion", shell)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert printed.stdout == completion_scripts()[SCRIPTS[shell]]


def test_uv_installs_the_wheel(wheel: Path, tmp_path: Path) -> None:
    places = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
    # Only with copies can the cache be on another file system without a warning.
    command = [
        sys.executable,
        "-m",
        "uv",
        "tool",
        "install",
        "--link-mode=copy",
        "--python",
        sys.executable,
        str(wheel),
    ]
    ended = subprocess.run(command, env={**os.environ, **places}, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    command = [str(tmp_path / "bin" / "dane-messenger"), "completion", "bash"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed == completion_scripts()[SCRIPTS["bash"]]


def test_a_wheel_of_the_source_distribution_has_the_same_files(wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(build(ROOT, "sdist", tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path, filter="data")
    source = tmp_path / f"dane_mqtt_messenger-{idlib.__version__}"
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(build(source, "wheel", tmp_path / "wheel")) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())
        shared = [name.partition(".data/data/")[2] for name in one.namelist() if ".data/data/" in name]
    assert sorted(shared) == SHARED


def test_every_module_can_be_imported(environment: Path) -> None:
    names = ("dane_messenger", "idlib", "messaging_maintenance", "messaging_receiver", "messaging_sender")
    program = (
        "import importlib, pkgutil\n"
        f"for name in {names!r}:\n"
        "    package = importlib.import_module(name)\n"
        "    for module in pkgutil.walk_packages(package.__path__, f'{name}.'):\n"
        "        if not module.name.endswith('__main__'):\n"
        "            importlib.import_module(module.name)\n"
    )
    ended = run(environment, "python", "-c", program)
    assert ended.returncode == 0, ended.stderr


def test_the_published_exception_has_a_replacement(environment: Path) -> None:
    program = "from idlib.errors import DiscoveryError, TLSAError; assert issubclass(DiscoveryError, TLSAError)"
    assert run(environment, "python", "-c", program).returncode == 0
    assert run(environment, "python", "-c", "import dane_discovery").returncode == 1


def test_only_our_packages_are_installed(environment: Path) -> None:
    (site_packages,) = (environment / "lib").glob("python*/site-packages")
    (record,) = site_packages.glob("dane_mqtt_messenger-*.dist-info/RECORD")
    tops = {line.split("/")[0].split(",")[0] for line in record.read_text().splitlines()}
    assert {top for top in tops if "dist-info" not in top and top != ".."} == {
        "dane_messenger",
        "idlib",
        "messaging_maintenance",
        "messaging_receiver",
        "messaging_sender",
    }
