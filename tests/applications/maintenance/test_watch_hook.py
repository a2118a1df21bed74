"""The hook after a change; checks with name servers are in tests/integration."""

import os
from pathlib import Path

import pytest

from idlib.settings import Settings, load
from messaging_maintenance import watch


def settings(hook: str) -> Settings:
    return load({"IDENTITY_NAME": "alice._device.example.test", "ROTATE_HOOK": hook, "APP_UID": str(os.getuid())})


def test_the_hook_gets_the_step(tmp_path: Path) -> None:
    path = tmp_path / "step"
    watch._run_hook(settings(f'echo "$ROTATE_STEP" > {path}'), "switch")
    assert path.read_text() == "switch\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("exit 3 # secret", "ROTATE_HOOK ended with status 3 at the step switch"),
        ("sleep 60 # secret", "ROTATE_HOOK did not end within 0.5 s at the step switch and was killed"),
    ],
)
def test_a_hook_that_fails_is_not_quoted(command: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_HOOK_SECONDS", 0.5)
    with pytest.raises(watch.HookError) as caught:
        watch._run_hook(settings(command), "switch")
    assert caught.value.fact == words
    assert "secret" not in str(caught.value)
