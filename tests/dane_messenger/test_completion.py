"""`dane-messenger completion` without a wheel; tests/integration/test_wheel.py runs the installed command."""

from importlib import metadata
from pathlib import Path

import pytest

from dane_messenger import completion
from idlib.errors import ConfigurationError


class File:
    """A file of an installed package."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path

    def __str__(self) -> str:
        return self.name

    def locate(self) -> Path:
        return self.path


def print_script(monkeypatch: pytest.MonkeyPatch, shell: str, files: list[File] | None) -> None:
    monkeypatch.setattr(metadata, "files", lambda name: files)
    monkeypatch.setattr("sys.argv", ["dane-messenger completion", shell])
    completion.main()


def test_the_script_of_the_shell_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for shell, name in completion.SCRIPTS.items():
        (tmp_path / shell).write_text(f"the script for {shell}\n")
        files.append(File(f"../../../{name}", tmp_path / shell))
    print_script(monkeypatch, "zsh", files)
    assert capsys.readouterr().out == "the script for zsh\n"


@pytest.mark.parametrize("files", [None, [], [File("../../../share/man/man1/dane-messenger.1", Path("/"))]])
def test_an_installation_without_the_script_is_reported(
    files: list[File] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="has no completion script for fish; install dane-mqtt-messenger"):
        print_script(monkeypatch, "fish", files)


def test_a_package_that_is_not_installed_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", fail)
    monkeypatch.setattr("sys.argv", ["dane-messenger completion", "bash"])
    with pytest.raises(ConfigurationError, match="has no completion script for bash"):
        completion.main()


def test_a_script_that_was_deleted_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [File(f"../../../{completion.SCRIPTS['bash']}", tmp_path / "gone")]
    with pytest.raises(ConfigurationError, match=r"gone' cannot be read: No such file or directory"):
        print_script(monkeypatch, "bash", files)


def test_an_unknown_shell_is_wrong_usage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        print_script(monkeypatch, "tcsh", [])
    assert ended.value.code == 64
    assert "invalid choice: 'tcsh'" in capsys.readouterr().err
