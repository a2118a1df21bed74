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
from tests import documents

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


class Home:
    """The home directory of a user who runs the commands of docs/install.md.

    Args:
        directory: The directory.
        wheel: What is installed in place of the package on the index.
    """

    def __init__(self, directory: Path, wheel: Path) -> None:
        self.directory = directory
        self._wheel = wheel
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PIPX_", "UV_", "XDG_"))},
            "HOME": str(directory),
            # pipx and uv of these tests, then what they install.
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            # Both install for the Python of these tests.
            "PIPX_DEFAULT_PYTHON": sys.executable,
            "UV_PYTHON": sys.executable,
            "LC_ALL": "C.UTF-8",
            "MANPAGER": "cat",
        }

    def run(self, mark: str) -> str:
        """Run the commands below a mark in docs/install.md, and return what they print."""
        commands = documents.block("docs/install.md", mark)
        return self.run_command(
            "sh", "-ec", commands.replace(" install dane-mqtt-messenger", f" install {self._wheel}")
        )

    def run_command(self, *command: str) -> str:
        """Run a command with what is installed first on PATH, and return what it prints."""
        path = f"{self.directory / '.local/bin'}:{self._environment['PATH']}"
        ended = subprocess.run(
            command,
            env={**self._environment, "PATH": path},
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


@pytest.fixture(scope="module")
def pipx(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Return the home of a user who has installed the wheel with pipx."""
    home = Home(tmp_path_factory.mktemp("pipx") / "home", wheel)
    home.directory.mkdir()
    home.run("with pipx")
    return home


@pytest.fixture(scope="module")
def uv(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Return the home of a user who has installed the wheel with uv."""
    home = Home(tmp_path_factory.mktemp("uv") / "home", wheel)
    home.directory.mkdir()
    home.run("with uv")
    return home


@pytest.fixture(scope="module")
def environment(pipx: Home) -> Path:
    """Return the virtual environment that pipx has created."""
    return (pipx.directory / ".local/bin/dane-messenger").resolve().parents[1]


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


def test_pipx_puts_the_command_and_its_man_pages_where_they_are_found(pipx: Home) -> None:
    assert f"dane-messenger {idlib.__version__}\n" in pipx.run("after it")
    assert "--queue" in pipx.run_command("man", "dane-messenger-send")
    assert "identity rotate [options] [ACTION]" in pipx.run_command("man", "dane-messenger-identity-rotate")


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_command_prints_the_completion_script(shell: str, environment: Path) -> None:
    printed = run(environment, "dane-messenger", "completion", shell)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert printed.stdout == completion_scripts()[SCRIPTS[shell]]


@pytest.mark.parametrize(
    ("mark", "command", "registered"),
    [
        ("completion in bash", ["bash", "-ic", "complete -p dane-messenger"], "-F _shtab_dane_messenger"),
        ("completion in zsh", ["zsh", "-ic", "print $_comps[dane-messenger]"], "_shtab_dane_messenger"),
        ("completion in fish", ["fish", "-c", "complete -C 'dane-messenger rec'"], "receive"),
    ],
)
def test_a_new_shell_completes_after_the_line_of_the_document(
    uv: Home, mark: str, command: list[str], registered: str
) -> None:
    uv.run(mark)
    assert registered in uv.run_command(*command)


def test_uv_installs_the_command_and_the_man_pages(uv: Home) -> None:
    assert f"dane-messenger {idlib.__version__}\n" in uv.run("after it")
    assert "sign, encrypt and publish a message" in uv.run("man pages with uv")


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


# The last two tests remove what the others use.
def test_uv_removes_it(uv: Home) -> None:
    assert list((uv.directory / ".local/bin").glob("dane-messenger"))
    uv.run("removing it with uv")
    assert not list((uv.directory / ".local").rglob("*dane-messenger*"))


def test_pipx_removes_it(pipx: Home, environment: Path) -> None:
    pipx.run("removing it with pipx")
    assert not environment.exists()
    assert not [path for path in (pipx.directory / ".local").rglob("*dane-messenger*") if path.is_symlink()]
