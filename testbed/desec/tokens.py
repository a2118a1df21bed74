"""The tokens of the account, and the policies that say what each may write."""

import secrets
import string
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

from testbed.desec.exchange import REQUIRED, RejectionError
from testbed.desec.record_sets import Key

_ALPHABET: Final = sorted({*string.ascii_letters, *string.digits} - set("lIO0"))


@dataclass(frozen=True)
class Policy:
    """What a token may write; None stands for any.

    Args:
        domain: The domain.
        subname: What stands before the domain, empty for the domain itself.
        type: The type of the records.
        perm_write: Whether it may write there.
    """

    domain: str | None = None
    subname: str | None = None
    type: str | None = None
    perm_write: bool = False

    @property
    def is_default(self) -> bool:
        return (self.domain, self.subname, self.type) == (None, None, None)


@dataclass
class Token:
    """A token of the account.

    Args:
        secret: What authorizes requests.
        policies: What it may write; everything if there are none.
        perm_manage_tokens: Whether it may create tokens and policies.
    """

    secret: str
    policies: list[Policy] = field(default_factory=list)
    perm_manage_tokens: bool = False
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def may_write(self, key: Key) -> bool:
        """Return what the most specific policy says: domain before subname before type."""
        matching = [
            policy
            for policy in self.policies
            if all(
                wanted in (None, value)
                for wanted, value in zip((policy.domain, policy.subname, policy.type), key, strict=True)
            )
        ]
        matching.sort(key=lambda policy: (policy.domain is None, policy.subname is None, policy.type is None))
        return not matching or matching[0].perm_write


class Tokens:
    """All tokens of the account."""

    def __init__(self) -> None:
        self.by_secret: dict[str, Token] = {}

    def add(self, *policies: Policy, perm_manage_tokens: bool = False) -> Token:
        """Create a token.

        Args:
            policies: The first one is the default policy; without policies the token may write everything.
            perm_manage_tokens: Whether it may create tokens and policies.
        """
        assert not policies or policies[0].is_default
        token = Token("".join(secrets.choice(_ALPHABET) for _ in range(28)), list(policies), perm_manage_tokens)
        self.by_secret[token.secret] = token
        return token

    def authenticate(self, authorization: str) -> Token:
        """Return the token that a header names.

        Raises:
            RejectionError: There is none, or it is unknown.
        """
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "token":
            raise RejectionError(401, {"detail": "Authentication credentials were not provided."})
        if secret not in self.by_secret:
            raise RejectionError(401, {"detail": "Invalid token."}, {"WWW-Authenticate": "Token"})
        return self.by_secret[secret]

    def add_policy(self, identifier: str, document: Any, domains: Collection[str]) -> dict[str, object]:
        """Add a policy to a token, and return the policy as the API shows it.

        Args:
            identifier: Of the token.
            document: The policy, as it was sent.
            domains: Those of the account.

        Raises:
            RejectionError: There is no such token, or the policy is not valid.
        """
        token = next((token for token in self.by_secret.values() if token.id == identifier), None)
        if token is None:
            raise RejectionError(404, {"detail": "Not found."})
        missing = {name: REQUIRED for name in ("domain", "subname", "type") if name not in document}
        if missing:
            raise RejectionError(400, missing)
        if document["domain"] is not None and document["domain"] not in domains:
            raise RejectionError(400, {"domain": [f"Object with name={document['domain']} does not exist."]})
        policy = Policy(document["domain"], document["subname"], document["type"], document.get("perm_write", False))
        if not token.policies and not policy.is_default:
            message = "Policy precedence: The first policy must be the default policy."
            raise RejectionError(400, {"non_field_errors": [message]})
        token.policies.append(policy)
        return {"id": str(uuid.uuid4()), **document, "perm_write": policy.perm_write}
