"""The file of settings in docs/settings.md, and the rules below it."""

import os
import re
import subprocess
import sys
from pathlib import Path

from idlib.settings import ROTATION_READS, SENDER_READS, env_file, load
from idlib.settings.env_file import parse
from tests import documents

TEXT = documents.block("docs/settings.md", "alice.env")


def test_the_shown_file_has_good_settings(tmp_path: Path) -> None:
    variables = parse(TEXT.encode(), "alice.env")
    settings = load({**variables, "HOME": str(tmp_path)}, SENDER_READS | ROTATION_READS | {"ALLOWED_SENDERS"})
    assert str(settings.identity_name) == "alice._device.example.com"
    assert settings.rotate_hook == 'logger "rotation: $ROTATE_STEP"'


def test_the_shown_command_uses_the_file(tmp_path: Path) -> None:
    (tmp_path / "messenger").mkdir()
    (tmp_path / "messenger" / "alice.env").write_text(TEXT)
    (tmp_path / "messenger" / "alice.env").chmod(0o644)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["sh", "-ec", documents.block("docs/settings.md", "using alice.env")]
    environment = {"PATH": path, "HOME": str(tmp_path), "APP_UID": str(os.getuid())}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    assert (tmp_path / "messenger" / "identity" / "alice._device.example.com.key.pem").exists()


def test_the_ends_of_names_of_secrets_are_those_of_the_code() -> None:
    document = (documents.ROOT / "docs/settings.md").read_text()
    (listed,) = re.findall(r"whose name ends in ([A-Z,\sor]+?)\.", document)
    assert set(re.findall(r"[A-Z]{2,}", listed)) == env_file._SECRETS
