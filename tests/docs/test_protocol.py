"""docs/protocol.md: its table of reasons is complete, and every byte of its examples is right."""

import json
import re
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from idlib import marks
from idlib.algorithms import PrivateKey
from idlib.envelope import decrypt, encrypt, parse, seal, sign, verify
from idlib.epochs import EpochPrivateKey
from idlib.epochs.record import HPKE_9_KE, MAX_RECORDS, EpochRecord, SignedEpochRecord, read_epoch_records
from idlib.errors import Reason
from idlib.keys import read_private_key
from idlib.names import IdentityName
from idlib.records import render
from idlib.storage.replay import ReplayMemory
from idlib.trust import Policy, ReplayGuard, replay_entry
from testbed.forge import agree, b64, cbc_hs512, public_jwk, unb64

DOCUMENT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
ALICE, BOB = IdentityName("alice._device.example.com"), IdentityName("bob._device.example.com")
NOW = 1_800_000_000
TEXT = "Grüße from Alice"


def test_the_table_of_reasons_matches_the_code() -> None:
    section = DOCUMENT.partition("## Reason codes")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([a-z-]+)` \| \S.* \| \S.* \|$", section, re.MULTILINE) == list(Reason)


def test_code_cites_existing_sections() -> None:
    headings = re.findall(r"^## (.*)$", DOCUMENT, re.MULTILINE)
    sources = (Path(__file__).parents[2] / "idlib").rglob("*.py")
    cited = [section for path in sources for section in re.findall(r'docs/protocol\.md, "([^"]+)"', path.read_text())]
    assert len(cited) >= 4
    for section in cited:
        assert any(heading.startswith(section) for heading in headings), section


class Example:
    """The blocks of one example by their captions, each read at least once or the test fails."""

    def __init__(self, title: str, directory: Path) -> None:
        section = re.split(r"^##", DOCUMENT.partition(f"\n### {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
        self._blocks: dict[str, str] = dict(
            re.findall(r"^(\S[^\n]*):\n\n```\n(.*?)\n```$", section, re.MULTILINE | re.DOTALL)
        )
        assert len(self._blocks) == section.count("```") / 2
        self._directory = directory
        self.unread = set(self._blocks)
        self.alice, self.bob = self._key(ALICE, "Alice"), self._key(BOB, "Bob")

    def text(self, caption: str) -> str:
        return self._block(caption).replace("\n", "")

    def octets(self, caption: str) -> bytes:
        return bytes.fromhex(self.text(caption))

    def _block(self, caption: str) -> str:
        self.unread.discard(caption)
        return self._blocks[caption]

    def _key(self, name: IdentityName, who: str) -> PrivateKey:
        path = self._directory / f"{name}.key.pem"
        path.write_text(self._block(f"{who}'s private key, a public test key") + "\n")
        # This checks every number of the key; the programs do not check their own key.
        load_pem_private_key(path.read_bytes(), None)
        return read_private_key(path)

    @property
    def signed(self) -> str:
        return self.text("JWS, the plaintext of the outer layer")

    @property
    def message(self) -> dict[str, str]:
        message: dict[str, str] = json.loads(self.text("The message"))
        return message


@pytest.fixture(params=["rsa2048", "p256"])
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Example:
    return Example(request.param, tmp_path)


def check_records(example: Example) -> None:
    for name, who, key in ((ALICE, "Alice", example.alice), (BOB, "Bob", example.bob)):
        line = example.text(f"{who}'s TLSA record")
        certificate = x509.load_der_x509_certificate(bytes.fromhex(line.split()[-1]))
        assert line == f"{name}. IN TLSA {render(certificate, 0)}"
        assert certificate.public_key() == key.public.native
        certificate.verify_directly_issued_by(certificate)


def check_inner_layer(example: Example) -> None:
    header, signing_input = example.text("JWS protected header"), example.text("JWS signing input")
    signature = example.text("JWS signature")
    assert signing_input == f"{b64(header.encode())}.{b64(TEXT.encode())}"
    protected, payload = signing_input.split(".")
    members = {"protected": protected, "payload": payload, "signature": signature}
    assert example.signed == json.dumps(members, separators=(",", ":"))
    native = example.alice.native
    if isinstance(native, rsa.RSAPrivateKey):
        assert unb64(signature) == native.sign(signing_input.encode(), padding.PKCS1v15(), hashes.SHA256())
    binding = parse(example.signed).binding
    assert binding is not None
    ours = json.loads(sign(TEXT, sender=ALICE, signing_key=example.alice, binding=binding))
    assert (ours["protected"], ours["payload"]) == (protected, payload)
    assert len(ours["signature"]) == len(signature)


def check_outer_layer(example: Example) -> None:
    header, content_key = example.text("JWE protected header"), example.octets("Content encryption key")
    iv, message = example.octets("Initialization vector"), example.message
    ciphertext, tag = cbc_hs512(content_key, iv, example.signed.encode(), message["protected"].encode())
    assert message == {
        "protected": b64(header.encode()),
        "encrypted_key": message["encrypted_key"],
        "iv": b64(iv),
        "ciphertext": b64(ciphertext),
        "tag": b64(tag),
    }
    assert example.text("The message") == json.dumps(message, separators=(",", ":"))
    native, encrypted_key = example.bob.native, unb64(message["encrypted_key"])
    if isinstance(native, rsa.RSAPrivateKey):
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        assert native.decrypt(encrypted_key, oaep) == content_key
    else:
        check_key_agreement(example, native, json.loads(header)["epk"], encrypted_key, content_key)
    ours = encrypt(example.signed, recipient=BOB, encryption_key=example.bob.public)
    our_header = json.loads(unb64(json.loads(ours)["protected"]))
    their_header = json.loads(header)
    assert list(their_header) == list(our_header)
    assert {**our_header, "epk": None} == {**their_header, "epk": None}


def check_key_agreement(
    example: Example, native: ec.EllipticCurvePrivateKey, epk: dict[str, str], encrypted_key: bytes, content_key: bytes
) -> None:
    scalar = int.from_bytes(example.octets("Ephemeral private key, d"))
    ephemeral = ec.derive_private_key(scalar, ec.SECP256R1())
    assert epk == public_jwk(ephemeral.public_key())
    agreed = agree(ephemeral, native.public_key(), b"ECDH-ES+A256KW", 256)
    assert example.octets("Key-encryption key, from the key agreement") == agreed
    assert encrypted_key == aes_key_wrap(agreed, content_key)


def test_every_byte_of_an_example_is_correct(example: Example) -> None:
    check_records(example)
    check_inner_layer(example)
    check_outer_layer(example)
    assert not example.unread


def test_an_example_is_accepted(example: Example, tmp_path: Path) -> None:
    opened = decrypt(example.text("The message").encode(), BOB, [example.bob])
    assert opened.signed == example.signed
    unverified = parse(opened.signed)
    assert unverified.sender == ALICE
    Policy(BOB).check_message(unverified, NOW)
    assert verify(unverified, [example.alice.public]).decode() == TEXT
    with ReplayMemory(tmp_path / "data") as memory:
        ReplayGuard(memory).check(replay_entry(unverified, opened.digest))


def test_an_example_is_what_the_sender_produces(example: Example) -> None:
    binding = parse(example.signed).binding
    assert binding is not None
    ours = seal(
        TEXT,
        sender=ALICE,
        signing_key=example.alice,
        recipient=BOB,
        encryption_key=example.bob.public,
        binding=binding,
    )
    assert {name: len(part) for name, part in json.loads(ours).items()} == {
        name: len(part) for name, part in example.message.items()
    }


def test_the_digest_of_an_unbound_message_is_as_described(example: Example) -> None:
    message = example.message
    octets = (
        message["protected"].encode() + b"." + b"".join(unb64(message[name]) for name in ("iv", "ciphertext", "tag"))
    )
    digest = hashes.Hash(hashes.SHA256())
    digest.update(octets)
    assert decrypt(example.text("The message").encode(), BOB, [example.bob]).digest == digest.finalize()


def test_every_byte_of_the_example_of_an_epoch_record_is_correct(tmp_path: Path) -> None:
    section = re.split(
        r"^##", DOCUMENT.partition("\n### Example of an epoch record\n")[2], maxsplit=1, flags=re.MULTILINE
    )[0]
    start, until = (int(time) for time in re.findall(r"\d{10}", section.partition("Seed")[0]))
    blocks = {
        caption: block.replace("\n", "")
        for caption, block in re.findall(r"^(\S[^\n]*):\n\n```\n(.*?)\n```$", section, re.MULTILINE | re.DOTALL)
    }
    seed, body, signature, key_id, text = blocks.values()
    alice = Example("rsa2048", tmp_path).alice
    record = EpochRecord(start, until, EpochPrivateKey(bytes.fromhex(seed)).public)
    assert record.to_octets().hex() == body
    signed = SignedEpochRecord.create(record, ALICE, alice)
    assert signed.signature.hex() == signature
    assert signed.to_text().decode() == text
    assert record.key_id(ALICE) == key_id
    (usable,) = read_epoch_records(ALICE, [text.encode()], [alice.public]).usable
    assert usable.record == record


def test_the_text_about_epoch_keys_has_the_numbers_of_the_code() -> None:
    section = DOCUMENT.partition("\n## Epoch keys in DNS\n")[2].partition("\n## ")[0]
    assert f"extension\n  {marks.OID.dotted_string}, not critical" in section
    assert f"`{marks.EXTENSION.value.hex(' ')}`" in section
    assert f"only the first {MAX_RECORDS} in" in section
    assert f"suite: {HPKE_9_KE}," in section
