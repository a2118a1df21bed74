"""What the receiver reports about its own record: in the log, once and then rarely, and the same to --health."""

import logging
import sys
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from idlib.algorithms import PrivateKey
from idlib.bootstrap import Bootstrap
from idlib.certificates import build_self_signed_certificate, build_subject, build_subject_alternative_name
from idlib.discovery import Discovery
from idlib.discovery.authentication import AuthenticRecords
from idlib.discovery.lookup import LookUp
from idlib.errors import (
    BogusError,
    DiscoveryError,
    NoRecordError,
    NotSecureError,
    TemporaryDiscoveryError,
    UnprovenAbsenceError,
)
from idlib.keys import certificate_path, key_path, read_certificate, read_private_key
from idlib.marks import EXTENSION
from idlib.names import IdentityName
from idlib.records import PUBLIC_KEY_INFO, WHOLE_CERTIFICATE, render
from idlib.settings import KeyType, Settings, load
from messaging_receiver import own_identity
from messaging_receiver.own_identity import wait_for_own_key
from messaging_receiver.own_record import OwnRecord

NAME = IdentityName("alice.example")
WRONG_NAME = IdentityName(f"_443._tcp.{NAME}")
ABSENT = NoRecordError(f"{NAME} does not exist in DNS", "check the spelling")
UNREACHABLE = TemporaryDiscoveryError("the DNS server 127.0.0.1:9 cannot be reached", "check the network")
ARTICLE = ["Public identity is not valid!", f"Ensure that your identity is provisioned at {NAME}"]
PUBLISH = "publish the record that dane-messenger identity tlsa prints"
HEALTH_CHARACTERS = 100
CREATES_NO_KEYS = "own record is marked, but EPOCH_KEYS is off: others can send nothing once its last key is gone"


@dataclass
class Device:
    """A device with simulated DNS answers and a simulated clock."""

    settings: Settings
    now: float = 1000.0
    answer: tuple[bytes, ...] | DiscoveryError = ABSENT
    answer_at_the_wrong_name: tuple[bytes, ...] | DiscoveryError = ABSENT
    time_to_live: float = 300.0
    own_record: OwnRecord = field(init=False)

    def __post_init__(self) -> None:
        discovery = Discovery(self, clock=lambda: self.now)
        self.own_record = OwnRecord(self.settings, discovery, lambda: self.now)

    def look_up(self, wanted: LookUp) -> AuthenticRecords:
        assert wanted.name in {NAME, WRONG_NAME}
        answer = self.answer if wanted.name == NAME else self.answer_at_the_wrong_name
        if isinstance(answer, DiscoveryError):
            raise answer
        return AuthenticRecords(answer, self.time_to_live, "made in a test")

    def bootstrap(self) -> Bootstrap:
        return Bootstrap(str(NAME), str(self.settings.crypto_path), 0, key_type=KeyType.P256)

    def make_identity(self) -> None:
        self.bootstrap().replace_selfsigned_identity()

    @property
    def key(self) -> PrivateKey:
        return read_private_key(key_path(self.settings.crypto_path, NAME))

    def record(self, selector: int = WHOLE_CERTIFICATE) -> bytes:
        certificate = read_certificate(certificate_path(self.settings.crypto_path, NAME))
        return render(certificate, selector).to_rdata()

    @property
    def shown_record(self) -> str:
        return f"Publish this record: {NAME}. IN TLSA 3 0 0 {self.record()[3:].hex()}"

    def look(self, seconds: float = 10.0, times: int = 1) -> str | None:
        for _ in range(times):
            self.own_record.look(self.key)
            self.now += seconds
        return self.own_record.problem


@pytest.fixture
def device(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Device:
    device = Device(load({"IDENTITY_NAME": str(NAME), "CRYPTO_PATH": str(tmp_path / "identity")}))
    device.make_identity()
    caplog.set_level(logging.INFO)
    caplog.clear()
    return device


def test_a_record_that_is_right_from_the_start_is_not_logged(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    device.answer = (device.record(PUBLIC_KEY_INFO),)
    assert device.look(times=100) is None
    assert caplog.messages == []


def test_the_record_to_publish_is_logged_once_and_its_absence_less_and_less_often(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    short = f"own record is not in DNS yet: {NAME} does not exist in DNS; {PUBLISH}"
    assert device.look() == "own record is not in DNS yet"
    assert caplog.messages == [short, *ARTICLE, device.shown_record]
    caplog.clear()
    began, logged_at = 1000.0, []
    while device.now <= began + 3 * 3600:
        device.look()
        if caplog.messages:
            assert caplog.messages == [short]
            logged_at.append(device.now - 10 - began)
            caplog.clear()
    assert logged_at == [60, 600, 600 + 3600, 600 + 7200]


def test_a_record_at_the_wrong_name_is_distinguished_from_none(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    device.answer = NoRecordError(ABSENT.fact, kept_seconds=3541)
    assert device.look() == "own record is not in DNS yet"
    caplog.clear()
    device.answer_at_the_wrong_name = (device.record(),)
    cause = f"own record is misplaced: there is one at {WRONG_NAME}; move it to {NAME}"
    assert device.look(times=3) == cause
    assert caplog.messages == [f"{cause}; the resolver keeps this answer for up to another 60 min"]
    assert caplog.records[0].levelno == logging.WARNING
    device.answer = (device.record(),)
    device.look(60)
    assert device.own_record.problem is None


def test_a_marked_record_without_epoch_keys_is_a_problem(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for switch, problem in (("on", None), ("off", CREATES_NO_KEYS), ("on", None)):
        settings = load({"IDENTITY_NAME": str(NAME), "CRYPTO_PATH": str(tmp_path), "EPOCH_KEYS": switch})
        device = Device(settings)
        Bootstrap(str(NAME), str(tmp_path), 0, key_type=KeyType.P256).replace_selfsigned_identity()
        certificate = build_self_signed_certificate(
            device.key,
            build_subject(NAME, country="US", state="CA", locality="a", organization="b"),
            build_subject_alternative_name(NAME),
            datetime.now(UTC),
            EXTENSION,
        )
        device.answer = (render(certificate, WHOLE_CERTIFICATE).to_rdata(),)
        assert device.look(times=3) == problem
    assert len(CREATES_NO_KEYS) <= HEALTH_CHARACTERS
    shown = [message for message in caplog.messages if "EPOCH_KEYS" in message]
    assert shown == [f"{CREATES_NO_KEYS}; set EPOCH_KEYS=on, or run dane-messenger identity epoch off"]


def test_a_record_that_appears_is_logged(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    device.look()
    caplog.clear()
    device.answer = (device.record(),)
    assert device.look() is None
    assert caplog.messages == [f"Own record found: DNS has the key of {NAME}"]
    assert caplog.records[0].levelno == logging.INFO


def test_the_record_to_publish_is_logged_even_without_proof_of_absence(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    device.answer = UnprovenAbsenceError("the DNS server returned no TLSA record", "check the spelling")
    assert device.look() == "own record is not in DNS yet"
    assert device.shown_record in caplog.messages


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (UNREACHABLE, f"own record: DNS look-up failed: {UNREACHABLE.fact}"),
        (NotSecureError("no AD bit", "check it"), "own record: the answer is not secure: no AD bit"),
        (BogusError("signatures are broken", "check it"), "own record: DNSSEC validation fails: signatures are broken"),
    ],
)
def test_if_the_look_up_fails_no_record_to_publish_is_logged(
    device: Device, error: DiscoveryError, cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    device.answer = error
    assert device.look(times=6) == cause
    assert caplog.messages == [f"{cause}; {error.hint}"]
    assert caplog.records[0].levelno == logging.WARNING


def test_a_record_of_another_key_is_distinguished_from_none(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    device.answer = (device.record(),)
    device.make_identity()
    caplog.clear()
    assert device.look() == "own record in DNS does not match our key"
    assert caplog.messages == [f"own record in DNS does not match our key; {PUBLISH}", *ARTICLE, device.shown_record]


def test_a_damaged_record_is_distinguished_from_none(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    device.answer = (device.record()[:-1],)
    problem = device.look()
    assert problem is not None
    assert problem.startswith("own record in DNS cannot be used: the TLSA record of alice.example is not usable")
    assert caplog.messages[1:] == [*ARTICLE, device.shown_record]


def test_a_record_that_disappears_and_comes_back_is_logged(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    device.answer = (device.record(),)
    device.look(60)
    device.answer = ABSENT
    assert device.look(60, times=10) == "own record is no longer in DNS"
    assert caplog.messages[:2] == [
        f"own record is no longer in DNS: {NAME} does not exist in DNS; {PUBLISH}",
        device.shown_record,
    ]
    assert not set(ARTICLE) & set(caplog.messages)
    assert caplog.records[0].levelno == logging.WARNING
    caplog.clear()
    device.answer = (device.record(),)
    assert device.look() is None
    assert caplog.messages == [f"Own record found: DNS has the key of {NAME}"]


def test_a_replaced_record_is_found_within_a_minute_although_the_old_one_is_cached(device: Device) -> None:
    old = device.record()
    device.answer = (old,)
    device.look(60)
    device.make_identity()
    assert device.look(60) == "own record in DNS does not match our key"
    device.answer = (device.record(), old)
    assert device.look() is None


def test_dns_outages_in_between_do_not_repeat_the_log_lines(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(20):
        device.answer = ABSENT
        device.look(6)
        device.answer = UNREACHABLE
        device.look(6)
    assert caplog.messages.count(device.shown_record) == 1
    assert caplog.messages.count(ARTICLE[0]) == 1
    assert len(caplog.messages) == len([*ARTICLE, device.shown_record]) + 2 * len(["the first", "after a minute"])


@pytest.mark.parametrize(("kept", "said"), [(3541, "60 min"), (3540, "59 min"), (61, "2 min")])
def test_the_log_shows_how_long_a_resolver_keeps_an_old_answer(
    device: Device, kept: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    device.answer = NoRecordError(ABSENT.fact, kept_seconds=kept)
    assert device.look() == "own record is not in DNS yet"
    assert caplog.messages[0].endswith(f"; the resolver keeps this answer for up to another {said}")


def test_a_short_cache_time_is_not_logged(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    device.answer = NoRecordError(ABSENT.fact, kept_seconds=60)
    device.look()
    assert "the resolver" not in caplog.text


def test_a_new_key_has_a_new_record_to_publish(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    device.look()
    first = device.shown_record
    device.make_identity()
    device.look()
    assert [line for line in caplog.messages if line.startswith("Publish")] == [first, device.shown_record]
    assert caplog.messages.count(ARTICLE[0]) == 1


def test_a_missing_certificate_of_a_ca_is_logged_without_the_hint_to_create_a_key(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    path = certificate_path(device.settings.crypto_path, NAME)
    path.unlink()
    device.look(times=3)
    hint = "install your CA's certificate with dane-messenger identity install"
    assert caplog.messages[1:] == [*ARTICLE, f"No record to publish: there is no '{path}'; {hint}"]
    assert "--force" not in caplog.text


def test_no_record_is_logged_for_a_certificate_of_another_key(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    key_path(device.settings.crypto_path, NAME).unlink()
    device.bootstrap().generate_private_key()
    device.look()
    assert "is not for the current key" in caplog.messages[-1]
    assert "Publish this record" not in caplog.text


def wait(device: Device, stopping: threading.Event) -> PrivateKey | None:
    return wait_for_own_key(device.settings, device.own_record, stopping)


@pytest.fixture
def without_identity(device: Device) -> Device:
    for path in device.settings.crypto_path.iterdir():
        path.unlink()
    return device


def report_without_a_key(
    device: Device, program: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, str | None]:
    """Start a receiver as a program; return its only log line and its answer to --health."""
    monkeypatch.setattr(own_identity, "LOOK_AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(sys, "argv", [program])
    stopping = threading.Event()
    threading.Timer(1, stopping.set).start()
    assert wait(device, stopping) is None
    (line,) = caplog.messages
    return line, device.own_record.problem


def test_without_an_identity_one_line_names_the_program_to_run(
    without_identity: Device, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, problem = report_without_a_key(without_identity, "application.py", caplog, monkeypatch)
    assert problem == "no identity yet: run ./create_selfsigned_id.py in maintenance"
    assert line == f"{problem} (there is no '{key_path(without_identity.settings.crypto_path, NAME)}')"
    assert len(problem) <= HEALTH_CHARACTERS


@pytest.mark.parametrize("directory", ["applications", "/checkout of mine/applications", "."])
def test_in_a_checkout_the_program_to_run_is_named_relative_to_the_current_directory(
    without_identity: Device,
    directory: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = tmp_path / "start" / "applications" / "messaging_receiver" / "src"
    start.mkdir(parents=True)
    creator = tmp_path / "start" / "applications" / "maintenance" / "src" / "create_selfsigned_id.py"
    creator.parent.mkdir(parents=True)
    creator.touch()
    if directory == "applications":
        monkeypatch.chdir(tmp_path / "start")
        program, shown = "applications/messaging_receiver/src/application.py", str(creator.relative_to(Path.cwd()))
    elif directory == ".":
        monkeypatch.chdir(start)
        program, shown = "./application.py", "../../maintenance/src/create_selfsigned_id.py"
    else:
        (tmp_path / "start").rename(tmp_path / "checkout of mine")
        creator = tmp_path / "checkout of mine" / creator.relative_to(tmp_path / "start")
        program = str(creator.parents[2] / "messaging_receiver" / "src" / "application.py")
        shown = f"'{creator}'"
    line, problem = report_without_a_key(without_identity, program, caplog, monkeypatch)
    assert problem == f"no identity yet: run {shown}"
    assert line.startswith(f"{problem} (there is no '")
    assert line.count("create_selfsigned_id.py") == 1


def test_without_a_key_of_ours_the_key_of_another_name_is_mentioned(
    without_identity: Device, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = without_identity.settings.crypto_path
    key_path(directory, IdentityName("bob.example")).touch()
    line, _ = report_without_a_key(without_identity, "application.py", caplog, monkeypatch)
    assert line.endswith(
        f" (there is no '{key_path(directory, NAME)}'; '{directory}' has a key of bob.example: is IDENTITY_NAME right?)"
    )


def test_an_unusable_key_is_distinguished_from_a_missing_one(
    device: Device, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_identity, "LOOK_AGAIN_SECONDS", 0.05)
    key_path(device.settings.crypto_path, NAME).write_text("not a key")
    stopping = threading.Event()
    threading.Timer(1, stopping.set).start()
    assert wait(device, stopping) is None
    (line,) = caplog.messages
    assert line.startswith("own key cannot be used: ")


def test_the_key_is_returned_once_its_record_is_in_dns(
    device: Device, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_identity, "LOOK_AGAIN_SECONDS", 0.05)
    device.time_to_live = 0

    def publish() -> None:
        device.answer = (device.record(),)
        device.now += 60

    threading.Timer(0.5, publish).start()
    found = wait(device, threading.Event())
    assert found is not None
    assert found.public.der == device.key.public.der
    path = key_path(device.settings.crypto_path, NAME)
    assert [line for line in caplog.messages if line.startswith("Reading")] == [f"Reading '{path}'"]


def test_an_internal_error_ends_the_wait(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: PrivateKey) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(device.own_record, "look", fail)
    with pytest.raises(RuntimeError, match="a fault"):
        wait(device, threading.Event())
