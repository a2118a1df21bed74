import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idlib.errors import ConfigurationError
from idlib.names import IdentityName
from idlib.settings import load
from tests.idlib.settings.loading import NAME, problem


def test_senders_can_be_listed_in_a_file(tmp_path: Path) -> None:
    listed = tmp_path / "senders"
    listed.write_text("alice.example.com  # the kettle\n\n*._device.example.com, bob.example\n")
    patterns = load({**NAME, "ALLOWED_SENDERS": f"@{listed}"}).allowed_senders
    assert patterns is not None
    assert patterns.texts == ("alice.example.com", "*._device.example.com", "bob.example")


@given(octets=st.binary() | st.text("ab*._-,# \n").map(str.encode))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_of_senders_is_read_or_reported_as_wrong(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / "senders").write_bytes(octets)
    try:
        patterns = load({**NAME, "ALLOWED_SENDERS": f"@{tmp_path / 'senders'}"}).allowed_senders
    except ConfigurationError as error:
        assert "ALLOWED_SENDERS" in str(error)
        return
    assert patterns is not None
    assert patterns.texts


@pytest.mark.parametrize("name", ["ALLOWED_SENDERS", "DENIED_SENDERS", "REQUIRE_BINDING", "REQUIRE_FORWARD_SECRECY"])
def test_a_bad_file_of_senders_is_reported_with_the_line_and_the_reason(tmp_path: Path, name: str) -> None:
    listed = tmp_path / "senders"
    listed.write_text("alice.example.com\nbob\n")
    with pytest.raises(ConfigurationError) as caught:
        load({**NAME, name: f"@{listed}"})
    (problem,) = caught.value.problems
    assert problem.startswith(f"Bad value of env var {name}: '{listed}' line 2: 'bob' is not a device name")
    with pytest.raises(ConfigurationError, match="No such file or directory"):
        load({**NAME, name: "@/no/such/file"})


def test_a_list_from_a_file_has_its_path(tmp_path: Path) -> None:
    listed = tmp_path / "senders"
    listed.write_text("alice.example.com")
    allowed = load({**NAME, "ALLOWED_SENDERS": f"@{listed}", "DENIED_SENDERS": "bob.example"})
    assert allowed.allowed_senders is not None
    assert allowed.allowed_senders.source == listed
    assert allowed.denied_senders is not None
    assert allowed.denied_senders.source is None
    assert allowed.denied_senders.texts == ("bob.example",)


def test_a_file_of_denied_senders_may_be_empty_at_first(tmp_path: Path) -> None:
    (tmp_path / "senders").write_text("# nobody yet\n")
    denied = load({**NAME, "DENIED_SENDERS": f"@{tmp_path / 'senders'}"}).denied_senders
    assert denied is not None
    assert not denied.match(IdentityName("alice.example.com"))


@pytest.mark.parametrize("text", [",", "@/no/such/file", "alice", "alice.example;bob.example", "all"])
def test_a_list_of_senders_that_cannot_be_read_is_reported(text: str) -> None:
    with pytest.raises(ConfigurationError, match="ALLOWED_SENDERS"):
        load({**NAME, "ALLOWED_SENDERS": text})


def test_an_empty_list_of_senders_does_not_mean_everyone(tmp_path: Path) -> None:
    (tmp_path / "senders").write_text("# nobody yet\n")
    with pytest.raises(ConfigurationError, match="ALLOWED_SENDERS"):
        load({**NAME, "ALLOWED_SENDERS": f"@{tmp_path / 'senders'}"})


def test_binding_can_be_required_of_all_or_of_some() -> None:
    everybody = load({**NAME, "REQUIRE_BINDING": "all"}).require_binding
    some = load({**NAME, "REQUIRE_BINDING": "*.example.com"}).require_binding
    assert everybody is not None
    assert some is not None
    assert everybody.match(IdentityName("alice.example"))
    assert not some.match(IdentityName("alice.example"))


def test_the_path_of_a_file_of_names_is_checked_as_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "senders").write_bytes("\ufeffalice.example.com\r\n".encode())
    patterns = load({**NAME, "ALLOWED_SENDERS": "@~/senders"}).allowed_senders
    assert patterns is not None
    assert patterns.texts == ("alice.example.com",)
    assert "is a relative path" in problem(ALLOWED_SENDERS="@senders")
    os.mkfifo(tmp_path / "pipe")
    for name, fault in (
        ("nope", "cannot be read: No such file or directory"),
        ("pipe", "cannot be read: it is a named pipe"),
    ):
        assert fault in problem(ALLOWED_SENDERS=f"@{tmp_path / name}")
