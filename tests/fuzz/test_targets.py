"""The fuzz targets without a fuzzer: they reach the expected outcomes, and a broken promise is a defect."""

import importlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fuzz.__main__ as program
from fuzz.target import Target
from fuzz.world import ALICE, MALLORY, forge, keys, receive, signed_by
from testbed.forge import flattened, jws

REACHED = {
    "outer": {"printed"},
    "inner": {"printed", "signature-invalid"},
    "names": {"name patterns", "uri", "patterns", "malformed"},
    "tlsa": {f"{kind} {key}" for kind in ("3 0 0", "3 1 0", "4 0 0", "1 0 0") for key in ("RSA", "EC P-256")}
    | {"unusable"},
    "epochs": {"none", "usual", "not live", "foreign", "skipped", "skipped, of another"},
    "mqtt": {
        *("connected", "connected published", "connected subscribed", "nothing"),
        *("connected refused-oversized", "connected refused-transport-malformed"),
    },
    "answers": {"records", "no records", "no way", "truncated"},
}


def target_of(name: str) -> Target:
    target: Target = importlib.import_module(f"fuzz.{name}").TARGET
    return target


@cache
def seeds_of(name: str) -> Sequence[bytes]:
    return target_of(name).seeds()


def test_each_target_has_outcomes_that_it_must_reach() -> None:
    assert set(REACHED) == set(program.TARGETS)


@pytest.mark.parametrize("name", program.TARGETS)
def test_the_seeds_reach_all_these_outcomes(name: str) -> None:
    assert {target_of(name).check(seed) for seed in seeds_of(name)} == REACHED[name]


@pytest.mark.parametrize("name", program.TARGETS)
@given(seed=st.integers(0, 2**32), chosen=st.integers(0, 1000))
def test_changed_seeds_break_nothing(name: str, seed: int, chosen: int) -> None:
    target, generator, seeds = target_of(name), Random(seed), seeds_of(name)
    octets = seeds[chosen % len(seeds)]
    for _ in range(3):
        octets = target.mutate(octets, generator, lambda octets, most: (octets + generator.randbytes(3))[-most:])
        assert target.check(octets)


def test_printing_an_unsigned_message_would_be_a_defect() -> None:
    parts = forge().inner()
    payload = flattened(forge().outer(plaintext=flattened(parts)))
    assert receive(payload, [signed_by(ALICE, parts)]) == "printed"
    for signed in ([], [signed_by(MALLORY, parts)], [signed_by(ALICE, forge().inner(payload=b"other"))]):
        with pytest.raises(AssertionError, match="has not signed"):
            receive(payload, signed)


def test_a_signature_with_another_senders_key_is_invalid() -> None:
    parts = jws(keys(MALLORY)["RSA"], forge().inner_header(), b"hello")
    assert receive(flattened(forge().outer(plaintext=flattened(parts))), []) == "signature-invalid"


def test_one_input_can_be_checked_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "found").write_bytes(b"dns:a.b?type=TLSA")
    assert program.main(["names", "--input", str(tmp_path / "found")]) == 0
    assert capsys.readouterr().out == "uri\n"


def test_a_missing_atheris_is_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert program.main([]) == 1
    error = capsys.readouterr().err
    assert error.startswith("make fuzz needs atheris, which is not installed (Python ")
    assert error.count("\n") == 1
