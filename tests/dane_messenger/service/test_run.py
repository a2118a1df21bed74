"""Running a verb as the services do."""

import os
from pathlib import Path

import pytest

from dane_messenger.service import run
from dane_messenger.service.layout import Layout

COMMAND = Path("/opt/dane-messenger/bin/dane-messenger")


def test_systemd_expands_no_variable_in_a_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Became(Exception):
        """The process has become another one."""

    def become(_file: str, words: list[str]) -> None:
        raise Became(words)

    layout = Layout(tmp_path)
    layout.settings.mkdir(parents=True)
    (layout.settings / "alice.example.env").touch()
    monkeypatch.setattr(run, "Layout", lambda: layout)
    monkeypatch.setattr(run, "own_command", lambda: COMMAND)
    for check in ("require_root", "require_systemd", "require_visible"):
        monkeypatch.setattr(run, check, lambda *_: None)
    monkeypatch.setattr(os, "execvp", become)
    monkeypatch.setattr("sys.argv", ["run", "alice.example", "send", "bob.example", "$HOME ${HOME} $$ costs $5"])
    with pytest.raises(Became) as became:
        run.main()
    # In the words of a service, $$ is a dollar sign (systemd.service(5)).
    assert became.value.args[0][-4:] == [str(COMMAND), "send", "bob.example", "$$HOME $${HOME} $$$$ costs $$5"]
