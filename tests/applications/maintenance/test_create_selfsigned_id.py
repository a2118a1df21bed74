import os
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509

import idlib

Run = Callable[..., subprocess.CompletedProcess[str]]
Files = Callable[[], dict[str, bytes]]
NAME = "alice._device.example.test"
PROGRAMS = Path(__file__).parents[3] / "applications" / "maintenance" / "src"


def test_it_creates_an_identity_and_prints_the_next_step(run: Run, files: Files, crypto_path: Path) -> None:
    ended = run("create_selfsigned_id.py", LOCALITY="Lagos", COUNTRY="NG")
    assert ended.returncode == 0
    assert ended.stdout == ""
    assert f"Wrote '{crypto_path}/{NAME}.key.pem'" in ended.stderr
    assert "publish_tlsa.py" in ended.stderr
    assert sorted(files()) == [".crt.pem", ".key.pem"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in crypto_path.iterdir()} == {0o600}
    certificate = x509.load_pem_x509_certificate(files()[".crt.pem"])
    assert certificate.subject.rfc4514_string() == f"CN={NAME},O=example,L=Lagos,ST=CA,C=NG"


def test_settings_that_it_does_not_use_are_not_checked(run: Run, files: Files) -> None:
    ended = run("create_selfsigned_id.py", MQTT_HOST="foo:1883", MQTT_PORT="z", ALLOWED_SENDERS="@/nonexistent")
    assert ended.returncode == 0, ended.stderr
    assert sorted(files()) == [".crt.pem", ".key.pem"]


def test_settings_that_it_uses_are_checked(run: Run) -> None:
    ended = run("create_selfsigned_id.py", KEY_TYPE="rsa1024", COUNTRY="USA", MQTT_PORT="z")
    assert ended.returncode == 1
    assert [line.split(":")[0] for line in ended.stderr.splitlines()] == [
        "Bad value of env var KEY_TYPE",
        "Bad value of env var COUNTRY",
    ]


def test_an_existing_key_is_only_replaced_with_force(run: Run, files: Files) -> None:
    run("create_selfsigned_id.py")
    before = files()
    refused = run("create_selfsigned_id.py")
    assert refused.returncode == 4
    assert "already exists; use --force to replace it (the old key is kept as" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert files() == before

    forced = run("create_selfsigned_id.py", "--force")
    assert forced.returncode == 0
    assert files()[".key.previous.pem"] == before[".key.pem"]
    assert files()[".key.pem"] != before[".key.pem"]
    assert run("generate_tlsa.py").returncode == 0


def test_a_device_with_the_longest_name_gets_an_identity(run: Run) -> None:
    name = ".".join(["a" * 63] * 3 + ["b" * 61])
    assert run("create_selfsigned_id.py", IDENTITY_NAME=name).returncode == 0
    assert run("generate_tlsa.py", IDENTITY_NAME=name).stdout.startswith(f"TLSA record for {name}: 3 0 0 ")


@pytest.mark.parametrize("path", ["/proc/identity", "/dev/null", "/dev/null/identity"])
def test_a_directory_that_cannot_be_written_is_reported_in_one_line(run: Run, path: str) -> None:
    for program in ("create_selfsigned_id.py", "create_id_csr.py"):
        ended = run(program, CRYPTO_PATH=path)
        assert ended.returncode == 4
        assert ended.stdout == ""
        assert "CRYPTO_PATH must be a directory" in ended.stderr
        assert "Traceback" not in ended.stderr


def test_a_missing_name_is_reported(run: Run) -> None:
    ended = run("create_selfsigned_id.py", IDENTITY_NAME="")
    assert ended.returncode == 1
    assert ended.stderr == "Bad value of env var IDENTITY_NAME: it is set but empty; give it a value\n"


def test_several_simultaneous_runs_leave_one_matching_identity(run: Run, files: Files, crypto_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        statuses = sorted(pool.map(lambda _: run("create_selfsigned_id.py").returncode, range(3)))
    assert statuses == [0, 4, 4]
    assert sorted(files()) == [".crt.pem", ".key.pem"]
    assert run("generate_tlsa.py").returncode == 0


@pytest.mark.parametrize(
    "program",
    [
        "create_selfsigned_id.py",
        "create_id_csr.py",
        "install_certificate.py",
        "generate_tlsa.py",
        "new_identity.py",
        "rotate_id.py",
    ],
)
def test_help_fits_a_screen_and_wrong_usage_is_reported(run: Run, program: str) -> None:
    shown = run(program, "--help", IDENTITY_NAME="")
    assert shown.returncode == 0
    assert "example:" in shown.stdout
    assert len(shown.stdout.splitlines()) <= 24
    wrong = run(program, "--no-such-option", IDENTITY_NAME="")
    assert wrong.returncode == 64
    assert "--no-such-option" in wrong.stderr


def test_a_relative_path_is_rejected_and_nothing_is_created(run: Run, tmp_path: Path) -> None:
    for path in ("identity", "./~/identity"):
        ended = run("create_selfsigned_id.py", CRYPTO_PATH=path)
        assert ended.returncode == 1
        assert "is a relative path" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_tilde_is_the_home_directory_and_parents_are_created(run: Run, tmp_path: Path) -> None:
    ended = run("create_selfsigned_id.py", CRYPTO_PATH="~/messenger/identity", HOME=str(tmp_path / "home"))
    assert ended.returncode == 0
    assert (tmp_path / "home" / "messenger" / "identity" / f"{NAME}.key.pem").exists()


def test_settings_of_other_programs_are_not_checked(run: Run) -> None:
    ended = run("create_selfsigned_id.py", MQTT_CA_FILE="/no/such/file", MQTT_USERNAME="alice")
    assert ended.returncode == 0


def test_the_next_step_is_named_in_the_way_this_program_was_called(run: Run) -> None:
    ended = run("create_selfsigned_id.py")
    assert f"Next: run {PROGRAMS}/publish_tlsa.py to put its record into DNS" in ended.stderr


@pytest.mark.parametrize(
    "program", ["create_selfsigned_id.py", "create_id_csr.py", "generate_tlsa.py", "application.py"]
)
def test_it_prints_its_version(program: str, run: Run) -> None:
    ended = run(program, "--version")
    assert (ended.returncode, ended.stdout) == (0, f"{program} {idlib.__version__}\n")


def test_an_option_is_not_abbreviated(run: Run, crypto_path: Path) -> None:
    assert run("create_selfsigned_id.py", "--forc").returncode == 64
    assert not crypto_path.exists()


@pytest.mark.parametrize("program", ["generate_tlsa.py", "create_id_csr.py"])
def test_a_closed_stdout_is_reported_before_anything_is_created(program: str, tmp_path: Path) -> None:
    command = f"exec {sys.executable} {PROGRAMS / program} >&-"
    environment = {"PATH": os.environ["PATH"], "IDENTITY_NAME": NAME, "CRYPTO_PATH": str(tmp_path / "identity")}
    ended = subprocess.run(["sh", "-c", command], env=environment, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: stdout is closed")
    assert not (tmp_path / "identity").exists()


@pytest.mark.parametrize("options", [(), ("--force",)])
def test_a_named_pipe_in_place_of_the_key_is_reported_at_once(
    run: Run, crypto_path: Path, options: tuple[str, ...]
) -> None:
    crypto_path.mkdir()
    path = crypto_path / f"{NAME}.key.pem"
    os.mkfifo(path)
    ended = run("create_selfsigned_id.py", *options)
    assert ended.returncode == 4
    assert ended.stderr == f"Error: '{path}' is a named pipe, not a regular file; move it away\n"


@pytest.mark.parametrize("program", ["create_selfsigned_id.py", "create_id_csr.py"])
def test_the_key_is_not_replaced_while_a_rotation_is_under_way(
    program: str, run: Run, files: Files, crypto_path: Path
) -> None:
    run("create_selfsigned_id.py")
    (crypto_path / f"{NAME}.rotation.json").write_bytes(b"{}")
    before = files()
    refused = run(program, "--force")
    assert (refused.returncode, refused.stdout) == (4, "")
    assert "a rotation of the key is under way" in refused.stderr
    rotate = Path(refused.args[-2]).with_name("rotate_id.py")
    assert f"finish it with {rotate}, give it up with {rotate} --abort" in refused.stderr
    assert files() == before


@pytest.mark.parametrize(
    "arguments",
    [(), ("turn",), ("status", "--abort"), ("switch", "--single"), ("start", "--single", "--compromised")],
    ids=" ".join,
)
def test_wrong_usage_of_a_rotation_is_reported(run: Run, crypto_path: Path, arguments: tuple[str, ...]) -> None:
    wrong = run("rotate_id.py", *arguments)
    assert (wrong.returncode, wrong.stdout) == (64, "")
    assert len(wrong.stderr.splitlines()) == 1
    assert not crypto_path.exists()
