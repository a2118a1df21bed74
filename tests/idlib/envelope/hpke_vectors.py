"""Writes our part of hpke_vectors.json: `python -m tests.idlib.envelope.hpke_vectors`.

Encapsulation is random, so a message in the file is kept if it still opens and everything else in it is right. The
working group's part is always kept.
"""

import json
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from idlib.envelope import Binding, decrypt, sign
from idlib.epochs import EpochPrivateKey
from idlib.epochs.record import EpochRecord
from idlib.errors import Refusal
from idlib.names import IdentityName
from testbed.forge import b64, cbc_hs512, encapsulate, unb64
from tests.idlib.epochs.vectors import NAME, NOW, START, UNTIL, alice

PATH: Final = Path(__file__).with_name("hpke_vectors.json")

_TEXT: Final = "Grüße from Alice"
_BOB: Final = IdentityName("bob._device.example.com")
_KEY: Final = EpochPrivateKey(bytes.fromhex("9f48b75a86728a27e7c47d133651068a600a70230ee9ca5b2d619e2e4e89b896"))
_KEY_ID: Final = EpochRecord(START, UNTIL, _KEY.public).key_id(_BOB)
_BINDING: Final = Binding(_BOB, NOW, "c4VbVvM4kzYgZ8n1m4uV1A")
_CONTENT_KEYS: Final = {
    "A256CBC-HS512": "0a338ec815f6985d6905dc116513c45717e6f71e08c753748bcd20c49518ae5f"
    "319d245b2d251530907bfad469431c41b8bf7c0e78d1e051805cfe1876758979",
    "A256GCM": "9142a5030d5e755353a854c20aa92cd4c8f7f7324a87726c4dac8753c696e4ee",
}
_IVS: Final = {"A256CBC-HS512": "12eb7cc963aed6822a9bd92dcdf5ee30", "A256GCM": "43d00290d6c501a5f31591fd"}


def render(written: str) -> str:
    """Return the text of the file.

    Args:
        written: Its text until now.
    """
    vectors = json.loads(written)
    messages = {vector["enc"]: vector["message"] for vector in vectors["ours"]["messages"]}
    return json.dumps(vectors | {"ours": _ours(messages)}, indent=2) + "\n"


def _ours(messages: dict[str, str]) -> dict[str, Any]:
    signed = sign(_TEXT, sender=NAME, signing_key=alice("rsa2048"), binding=_BINDING)
    return {
        "name": _BOB.text,
        "seed": _KEY.seed.hex(),
        "public": b64(_KEY.public.octets),
        "from": START,
        "until": UNTIL,
        "kid": _KEY_ID,
        "signed": signed,
        "messages": [
            {
                "enc": enc,
                "content_key": _CONTENT_KEYS[enc],
                "iv": _IVS[enc],
                "message": _message(enc, signed, messages.get(enc, "")),
            }
            for enc in _CONTENT_KEYS
        ],
    }


def _message(enc: str, signed: str, written: str) -> str:
    """Return the message that is written already if every byte of it is right, otherwise a new one."""
    if _opens(written, signed):
        parts = json.loads(written)
        encapsulated = unb64(json.loads(unb64(parts["protected"]))["ek"])
        if written == _assemble(enc, signed, encapsulated, unb64(parts["encrypted_key"])):
            return written
    return _assemble(enc, signed, *encapsulate(_KEY.public, bytes.fromhex(_CONTENT_KEYS[enc]), enc))


def _opens(message: str, signed: str) -> bool:
    try:
        return decrypt(message.encode(), _BOB, [], {_KEY_ID: _KEY}).signed == signed
    except Refusal:
        return False


def _assemble(enc: str, signed: str, encapsulated: bytes, encrypted_key: bytes) -> str:
    content_key, iv = bytes.fromhex(_CONTENT_KEYS[enc]), bytes.fromhex(_IVS[enc])
    header = {"alg": "HPKE-9-KE", "enc": enc, "typ": "JWE", "x5u": _BOB.uri, "kid": _KEY_ID, "ek": b64(encapsulated)}
    protected = b64(_compact(header).encode())
    if enc == "A256GCM":
        sealed = AESGCM(content_key).encrypt(iv, signed.encode(), protected.encode())
        ciphertext, tag = sealed[:-16], sealed[-16:]
    else:
        ciphertext, tag = cbc_hs512(content_key, iv, signed.encode(), protected.encode())
    octets = {"encrypted_key": encrypted_key, "iv": iv, "ciphertext": ciphertext, "tag": tag}
    return _compact({"protected": protected, **{name: b64(value) for name, value in octets.items()}})


def _compact(members: dict[str, str]) -> str:
    return json.dumps(members, separators=(",", ":"))


if __name__ == "__main__":
    PATH.write_text(render(PATH.read_text()))
