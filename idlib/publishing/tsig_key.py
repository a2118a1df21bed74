"""Reads a TSIG key (RFC 8945) from the files that tsig-keygen, ddns-confgen, keymgr and rndc-confgen write."""

import binascii
import re
from pathlib import Path
from typing import Final

import dns.exception
import dns.name
import dns.tsig

from idlib.errors import CredentialError, quoted
from idlib.publishing.credential_file import read_credential

# `key "NAME" { algorithm hmac-sha256; secret "BASE64"; };`
_BIND: Final = re.compile(r'key\s+"?([^"\s{]+)"?\s*\{([^}]*)\}')
_ALGORITHM: Final = re.compile(r'\balgorithm:?\s+"?([A-Za-z0-9.-]+)"?')
_SECRET: Final = re.compile(r'\bsecret:?\s+"?([A-Za-z0-9+/=]+)"?')
# `# hmac-sha256:NAME:BASE64`, and the same line without its comment sign, as nsupdate -y has it.
_COLONS: Final = re.compile(
    r"^(?:#\s*)?(hmac-[a-z0-9-]+):([^:\s]+):([A-Za-z0-9+/=]+)\s*$", re.MULTILINE | re.IGNORECASE
)
# `- id: NAME` and indented lines below it, in Knot's configuration.
_KNOT: Final = re.compile(r'^\s*-\s+id:\s+"?([^"\s]+)"?((?:\s+(?:algorithm|secret):.*)+)', re.MULTILINE)
_COMMENT: Final = re.compile(r"^\s*(?:#|//).*$", re.MULTILINE)
_WEAK: Final = frozenset({"hmac-md5", "hmac-md5.sig-alg.reg.int", "hmac-sha1"})
_HINT: Final = "write it with tsig-keygen, ddns-confgen or keymgr -t"


def read_tsig_key(path: Path) -> dns.tsig.Key:
    """Return the only TSIG key in a file.

    Args:
        path: The file; only its owner may read it.

    Raises:
        CredentialError: The file cannot be read, or does not have exactly one usable key.
    """
    return parse_tsig_key(read_credential(path), path)


def parse_tsig_key(text: str, source: Path) -> dns.tsig.Key:
    """Return the only TSIG key in a text.

    Args:
        text: In one of the three forms.
        source: The file that it comes from, for error messages.

    Raises:
        CredentialError: There is no key, more than one, or one that cannot be used; never with its secret.
    """
    found = {(name, algorithm.lower(), secret) for name, algorithm, secret in _candidates(text)}
    if len(found) != 1:
        number = "no" if not found else f"{len(found)} different"
        raise CredentialError(f"{quoted(source)} has {number} TSIG key{'s' * (len(found) > 1)}", _HINT)
    ((name, algorithm, secret),) = found
    if algorithm in _WEAK:
        raise CredentialError(f"the TSIG key in {quoted(source)} is for {algorithm}, which is weak", "use hmac-sha256")
    if f"{algorithm}." not in {str(known) for known in dns.tsig.mac_sizes}:
        raise CredentialError(f"the TSIG key in {quoted(source)} has an unknown algorithm", "use hmac-sha256")
    try:
        binascii.a2b_base64(secret, strict_mode=True)
        return dns.tsig.Key(dns.name.from_text(name), secret, f"{algorithm}.")
    except (ValueError, dns.exception.DNSException):
        # Without the cause, which may quote the secret.
        raise CredentialError(f"the TSIG key in {quoted(source)} cannot be read", _HINT) from None


def _candidates(text: str) -> list[tuple[str, str, str]]:
    keys = [(name, algorithm, secret) for algorithm, name, secret in _COLONS.findall(text)]
    bare = _COMMENT.sub("", text)
    for name, body in (*_BIND.findall(bare), *_KNOT.findall(bare)):
        algorithm, secret = _ALGORITHM.search(body), _SECRET.search(body)
        if algorithm and secret:
            keys.append((name, algorithm[1], secret[1]))
    return keys
