"""The wheel, installed with `pip install` in an empty environment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import idlib
from testbed.programs import ROOT

NAME = "alice._device.example.test"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a virtual environment into which the wheel is installed, with the packages that its metadata requires."""
    directory = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory / "dist")]
    subprocess.run(build, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = (directory / "dist").glob("dane_mqtt_messenger-*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(directory / "bare")], check=True)
    python = directory / "bare" / "bin" / "python"
    install = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", str(wheel)]
    subprocess.run(install, check=True)
    return directory / "bare"


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


def test_a_program_uses_the_python_api_with_types(environment: Path, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from dane_messenger import ConfigurationError, Receiver, Sender\n"
        "settings = {'IDENTITY_NAME': sys.argv[1], 'DATA_PATH': sys.argv[2], 'MQTT_TLS': 'on'}\n"
        "try:\n"
        "    with Receiver({**settings, 'MQTT_CA_FILE': '/missing'}) as receiver:\n"
        "        receiver.get(60)\n"
        "except ConfigurationError as error:\n"
        "    print(error)\n"
    )
    # The error comes from the receiver's process.
    ended = run(environment, "python", "-c", program, NAME, str(tmp_path / "data"))
    problem = "Bad value of env var MQTT_CA_FILE: '/missing' cannot be read: No such file or directory\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, problem, "")
    (installed,) = (environment / "lib").glob("python*/site-packages/dane_messenger")
    assert (installed / "py.typed").exists()


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
