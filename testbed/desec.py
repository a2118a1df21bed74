"""A stand-in for deSEC: its REST API with its rules, limits and words, in front of whatever serves the zone in DNS.

The rules are those of https://desec.readthedocs.io and of https://github.com/desec-io/desec-stack: token policies,
`minimum_ttl`, atomic bulk writes, canonical records, and sliding windows for the number of requests.
"""

import json
import math
import re
import secrets
import ssl
import string
import threading
import time
import urllib.parse
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

import dns.exception
import dns.rdata
import dns.rdatatype

LOOPBACK: Final = "127.0.0.1"
MINIMUM_TTL: Final = 3600
MAXIMUM_TTL: Final = 86_400
# Requests and seconds of each limit, by what they limit.
LIMITS: Final[Mapping[str, Sequence[tuple[int, int]]]] = {
    "dns_api_cheap": ((10, 1), (50, 60)),
    "dns_api_per_domain_expensive": ((2, 1), (15, 60), (100, 3600), (300, 86_400)),
    "account_management_passive": ((50, 60), (600, 3600)),
    "user": ((2000, 86_400),),
}
_MANAGED_BY_THE_SERVER: Final = frozenset({"KEY", "NSEC", "NSEC3", "OPT", "RRSIG", "NSEC3PARAM", "SOA"})
_SUBNAME: Final = re.compile(r"([*]|(([*][.])?([a-z0-9_-]{1,63}[.])*[a-z0-9_-]{1,63}))?")
_SUBNAME_RULE: Final = (
    "Subname can only use (lowercase) a-z, 0-9, ., -, and _, may start with a '*.', or just be '*'. Components may not"
    " exceed 63 characters."
)
_TYPE: Final = re.compile("[A-Z][A-Z0-9]*")
_ALPHABET: Final = sorted({*string.ascii_letters, *string.digits} - set("lIO0"))
_REQUIRED: Final = ["This field is required."]
_MAX_RDATA_BYTES: Final = 64_000
_API: Final = "/api/v1/"

Key = tuple[str, str, str]


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


@dataclass(frozen=True)
class RecordSet:
    ttl: int
    records: tuple[str, ...]


@dataclass(frozen=True)
class Request:
    """What was asked.

    Args:
        method: Of HTTP.
        path: With its query, without the address of the API.
        authorization: The header; empty if there is none.
        document: The body, read as JSON; None if there is none.
        at: The time by the server's clock, in seconds.
    """

    method: str
    path: str
    authorization: str
    document: Any
    at: float


@dataclass(frozen=True)
class Reply:
    """What is answered.

    Args:
        status: Of HTTP.
        document: The body, as JSON, or as it is if it is bytes; None for no body.
        headers: Besides those of the body.
    """

    status: int
    document: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class RejectionError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, document: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.reply = Reply(status, document, headers or {})


class PartError(Exception):
    """A part of a write has errors."""

    def __init__(self, errors: dict[str, object]) -> None:
        super().__init__(errors)
        self.errors = errors


class DesecServer:
    """An account at deSEC.

    Args:
        domains: The names of its domains, and the lowest TTL of each.
        serve: Called with owner, records and TTL after each change of TLSA records, to put them into DNS.
        clock: Seconds, for the limits.
        tls: With it, the API is at `https://localhost:PORT`.
    """

    def __init__(
        self,
        domains: Mapping[str, int],
        serve: Callable[[str, Sequence[str], int], None] = lambda name, records, ttl: None,
        clock: Callable[[], float] = time.monotonic,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.domains = dict(domains)
        self.tokens: dict[str, Token] = {}
        self.record_sets: dict[Key, RecordSet] = {}
        # When each set was written last, even if that changed nothing; a zone without writes is deleted.
        self.touched: dict[Key, float] = {}
        self.requests: list[Request] = []
        self._serve = serve
        self._clock = clock
        self._windows: dict[tuple[str, int], deque[float]] = defaultdict(deque)
        self._lock = threading.RLock()
        self._replies: deque[Reply] = deque()
        self._hooks: dict[str, Callable[[], None]] = {}
        self._server = ThreadingHTTPServer((LOOPBACK, 0), self._handler())
        self._server.daemon_threads = True
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        port = self._server.server_address[1]
        self.origin = f"https://localhost:{port}" if tls else f"http://{LOOPBACK}:{port}"
        self.url = self.origin + _API
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def add_token(self, *policies: Policy, perm_manage_tokens: bool = False) -> str:
        """Create a token, and return its secret.

        Args:
            policies: The first one is the default policy; without policies the token may write everything.
            perm_manage_tokens: Whether it may create tokens and policies.
        """
        assert not policies or policies[0].is_default
        token = Token("".join(secrets.choice(_ALPHABET) for _ in range(28)), list(policies), perm_manage_tokens)
        self.tokens[token.secret] = token
        return token.secret

    def token_for(self, name: str) -> str:
        """Create a token that may write the TLSA records of one name only, and return its secret."""
        domain, subname = self._split(name)
        return self.add_token(Policy(), Policy(domain, subname, "TLSA", perm_write=True))

    def put(self, name: str, records: Sequence[str], ttl: int = MINIMUM_TTL) -> None:
        """Set the TLSA records of a name, as another program of the account does.

        Args:
            name: The owner.
            records: In presentation form; none removes them all.
            ttl: Seconds.
        """
        domain, subname = self._split(name)
        with self._lock:
            self._store((domain, subname, "TLSA"), RecordSet(ttl, tuple(records)) if records else None)

    def tlsa(self, name: str) -> RecordSet | None:
        """Return the TLSA records of a name; None if it has none."""
        return self.record_sets.get((*self._split(name), "TLSA"))

    def reply_next(self, *replies: Reply) -> None:
        """Answer the next requests in this way, whatever they are."""
        self._replies.extend(replies)

    def after_next(self, method: str, hook: Callable[[], None]) -> None:
        """Call a function once, when the next request of this method has been processed and before it is answered."""
        self._hooks[method] = hook

    def sent(self, *methods: str) -> list[Request]:
        """Return the requests of these methods."""
        return [request for request in self.requests if request.method in methods]

    def answer(self, request: Request) -> Reply:
        """Return the answer to a request, after the changes that it makes."""
        with self._lock:
            self.requests.append(request)
            try:
                reply = self._replies.popleft() if self._replies else self._process(request)
            except RejectionError as rejection:
                reply = rejection.reply
        if hook := self._hooks.pop(request.method, None):
            hook()
        return reply

    def _process(self, request: Request) -> Reply:
        url = urllib.parse.urlsplit(request.path)
        words = url.path.strip("/").split("/")
        token = self._authenticate(request.authorization)
        match (request.method, *words):
            case ("GET", "domains", name):
                self._require_domain(name)
                self._throttle("dns_api_cheap")
                return Reply(200, {"name": name, "minimum_ttl": self.domains[name], "keys": []})
            case ("GET", "domains", name, "rrsets"):
                self._require_domain(name)
                self._throttle("dns_api_cheap")
                return Reply(200, self._listed(name, urllib.parse.parse_qs(url.query, keep_blank_values=True)))
            case ("GET", "domains", name, "rrsets", subname, kind):
                self._require_domain(name)
                self._throttle("dns_api_cheap")
                key = (name, "" if subname == "@" else subname.removesuffix("..."), kind)
                if key not in self.record_sets:
                    raise RejectionError(404, {"detail": "No RRset matches the given query."})
                return Reply(200, self._shown(key))
            case ("PUT" | "PATCH" as method, "domains", name, "rrsets"):
                self._require_domain(name)
                self._throttle("dns_api_per_domain_expensive", name)
                return self._write(token, name, request.document, is_partial=method == "PATCH")
            case ("POST", "auth", "tokens"):
                self._require_management(token)
                made = self.tokens[self.add_token(perm_manage_tokens=False)]
                described = {"id": made.id, "name": request.document.get("name", ""), "token": made.secret}
                return Reply(201, {**described, "perm_manage_tokens": False})
            case ("POST", "auth", "tokens", identifier, "policies", "rrsets"):
                self._require_management(token)
                return self._add_policy(identifier, request.document)
        raise RejectionError(404, b"<h1>Not Found</h1>")

    def _authenticate(self, authorization: str) -> Token:
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "token":
            raise RejectionError(401, {"detail": "Authentication credentials were not provided."})
        if secret not in self.tokens:
            raise RejectionError(401, {"detail": "Invalid token."}, {"WWW-Authenticate": "Token"})
        return self.tokens[secret]

    def _require_domain(self, name: str) -> None:
        if name not in self.domains:
            raise RejectionError(404, {"detail": "Not found."})

    def _require_management(self, token: Token) -> None:
        if not token.perm_manage_tokens:
            raise RejectionError(403, {"detail": "You do not have permission to perform this action."})
        self._throttle("account_management_passive")

    def _throttle(self, scope: str, bucket: str = "") -> None:
        """Count a request in all windows of its scope and of the user, unless one of them is full."""
        now = self._clock()
        for one, place in ((scope, f"{scope} {bucket}"), ("user", "user")):
            windows = [(number, seconds, self._windows[place, seconds]) for number, seconds in LIMITS[one]]
            for number, seconds, window in windows:
                while window and window[0] <= now - seconds:
                    window.popleft()
                if len(window) >= number:
                    wait = math.ceil(window[0] + seconds - now)
                    unit = "second" if wait == 1 else "seconds"
                    raise RejectionError(
                        429,
                        {"detail": f"Request was throttled. Expected available in {wait} {unit}."},
                        {"Retry-After": str(wait)},
                    )
            for _, _, window in windows:
                window.append(now)

    def _listed(self, domain: str, query: Mapping[str, Sequence[str]]) -> list[dict[str, object]]:
        wanted = {key: values[-1] for key, values in query.items()}
        if wanted.get("type") in _MANAGED_BY_THE_SERVER:
            raise RejectionError(403, {"detail": f"You cannot tinker with the {wanted['type']} RRset."})
        return [
            self._shown(key)
            for key in self.record_sets
            if key[0] == domain and wanted.get("subname", key[1]) == key[1] and wanted.get("type", key[2]) == key[2]
        ]

    def _shown(self, key: Key) -> dict[str, object]:
        domain, subname, kind = key
        known = self.record_sets[key]
        name = f"{subname}.{domain}." if subname else f"{domain}."
        shown = {"domain": domain, "subname": subname, "name": name, "type": kind, "ttl": known.ttl}
        return {**shown, "records": list(known.records)}

    def _write(self, token: Token, domain: str, document: Any, *, is_partial: bool) -> Reply:
        if not isinstance(document, list):
            message = f"Expected a list of items but got {type(document).__name__}."
            raise RejectionError(400, {"non_field_errors": [message]})
        checked: dict[Key, dict[str, Any]] = {}
        errors: list[dict[str, object]] = []
        for item in document:
            try:
                key, fields = self._checked(token, domain, item, document, is_partial=is_partial)
            except PartError as error:
                errors.append(error.errors)
            else:
                errors.append({})
                checked[key] = fields
        if any(errors):
            raise RejectionError(400, errors)
        for key, fields in checked.items():
            known = self.record_sets.get(key)
            if fields.get("records") == []:
                self._store(key, None)
            else:
                # Without one of the fields, the set was required to exist.
                before = known or RecordSet(0, ())
                self._store(key, RecordSet(fields.get("ttl", before.ttl), tuple(fields.get("records", before.records))))
                self.touched[key] = self._clock()
        return Reply(200, [self._shown(key) for key in checked if key in self.record_sets])

    def _checked(
        self, token: Token, domain: str, item: Any, document: Sequence[Any], *, is_partial: bool
    ) -> tuple[Key, dict[str, Any]]:
        """Return the key of one part of a write, and its fields; a PartError holds what is wrong with it."""
        if not isinstance(item, dict):
            raise PartError({"non_field_errors": f"Expected a dictionary, but got {type(item).__name__}."})
        for name in ("subname", "type"):
            if not isinstance(item.get(name), str | None):
                raise PartError({name: f"Expected a string, but got {type(item[name]).__name__}."})
        twins = [
            index
            for index, other in enumerate(document)
            if isinstance(other, dict)
            and other is not item
            and all(other.get(name) == item.get(name) for name in ("subname", "type"))
        ]
        if twins:
            positions = ", ".join(map(str, twins))
            message = f"Same subname and type as in position(s) {positions}, but must be unique."
            raise PartError({"non_field_errors": [message]})
        key = (domain, item.get("subname"), item.get("type"))
        is_alias = key[2] == "CNAME"
        conflicts = [
            other[2] for other in self.record_sets if other[:2] == key[:2] and (other[2] == "CNAME") != is_alias
        ]
        if item.get("records") != [] and conflicts:
            message = (
                f"RRset with conflicting type present at same subname: database ({', '.join(conflicts)})."
                " (No other RRsets are allowed alongside CNAME.)"
            )
            raise PartError({"non_field_errors": [message]})
        required = {"subname", "type"}
        if not is_partial or (key not in self.record_sets and item.get("records") != []):
            required |= {"ttl", "records"}
        self._check_fields(domain, item, required)
        if not token.may_write((domain, item["subname"], item["type"])):
            # Of the whole request, not of a part of it.
            raise RejectionError(403, {"detail": "Insufficient token permissions."})
        fields = dict(item)
        if "records" in item:
            fields["records"] = _canonical(item["type"], item["records"])
        return (domain, item["subname"], item["type"]), fields

    def _check_fields(self, domain: str, item: Mapping[str, Any], required: set[str]) -> None:
        errors: dict[str, object] = {name: _REQUIRED for name in required if item.get(name) is None}
        if errors:
            raise PartError(errors)
        if not _SUBNAME.fullmatch(item["subname"]):
            errors["subname"] = [_SUBNAME_RULE]
        errors |= _errors_of_type(item["type"])
        if "ttl" in item:
            errors |= _errors_of_ttl(item["ttl"], self.domains[domain])
        if "records" in item:
            errors |= _errors_of_records(item["records"])
        if errors:
            raise PartError(errors)

    def _store(self, key: Key, record_set: RecordSet | None) -> None:
        domain, subname, kind = key
        if record_set == self.record_sets.get(key):
            return
        if record_set:
            self.record_sets[key] = record_set
        else:
            del self.record_sets[key]
        if kind == "TLSA":
            name = f"{subname}.{domain}" if subname else domain
            self._serve(name, record_set.records if record_set else (), record_set.ttl if record_set else 0)

    def _add_policy(self, identifier: str, document: Any) -> Reply:
        token = next((token for token in self.tokens.values() if token.id == identifier), None)
        if token is None:
            raise RejectionError(404, {"detail": "Not found."})
        missing = {name: _REQUIRED for name in ("domain", "subname", "type") if name not in document}
        if missing:
            raise RejectionError(400, missing)
        if document["domain"] is not None and document["domain"] not in self.domains:
            raise RejectionError(400, {"domain": [f"Object with name={document['domain']} does not exist."]})
        policy = Policy(document["domain"], document["subname"], document["type"], document.get("perm_write", False))
        if not token.policies and not policy.is_default:
            message = "Policy precedence: The first policy must be the default policy."
            raise RejectionError(400, {"non_field_errors": [message]})
        token.policies.append(policy)
        return Reply(201, {"id": str(uuid.uuid4()), **document, "perm_write": policy.perm_write})

    def _split(self, name: str) -> tuple[str, str]:
        domain = next(domain for domain in self.domains if f".{name}".endswith(f".{domain}"))
        return domain, name.removesuffix(domain).removesuffix(".")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        desec = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                document = None
                if body:
                    with suppress(ValueError):
                        document = json.loads(body)
                authorization = self.headers["Authorization"] or ""
                path = self.path.removeprefix(_API) if self.path.startswith(_API) else "nothing/here"
                reply = desec.answer(Request(self.command, path, authorization, document, desec._clock()))
                with suppress(ConnectionError):
                    self._send(reply)

            do_DELETE = do_GET = do_PATCH = do_POST = do_PUT = _answer  # noqa: N815  # the names that the server looks for

            def _send(self, reply: Reply) -> None:
                body = reply.document if isinstance(reply.document, bytes) else json.dumps(reply.document).encode()
                self.send_response(reply.status)
                headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **reply.headers}
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as its base has it
                pass

        return Handler


def _errors_of_type(kind: str) -> dict[str, object]:
    if not _TYPE.fullmatch(kind):
        return {"type": ["Type must be uppercase alphanumeric and start with a letter."]}
    if kind in _MANAGED_BY_THE_SERVER:
        return {"type": [f"You cannot tinker with the {kind} RR set. It is managed automatically."]}
    if kind.startswith("TYPE"):
        return {"type": ["Generic type format is not supported."]}
    try:
        dns.rdatatype.from_text(kind)
    except (dns.exception.DNSException, ValueError):
        return {"type": [f"The {kind} RR set type is currently unsupported."]}
    return {}


def _errors_of_ttl(ttl: object, minimum: int) -> dict[str, object]:
    if not isinstance(ttl, int):
        return {"ttl": ["A valid integer is required."]}
    if ttl < minimum:
        return {"ttl": [f"Ensure this value is greater than or equal to {minimum}."]}
    if ttl > MAXIMUM_TTL:
        return {"ttl": [f"Ensure this value is less than or equal to {MAXIMUM_TTL}."]}
    return {}


def _errors_of_records(records: object) -> dict[str, object]:
    if not isinstance(records, list):
        return {"records": [f'Expected a list of items but got type "{type(records).__name__}".']}
    if not all(isinstance(record, str) for record in records):
        return {"records": [{} if isinstance(record, str) else ["Must be a string."] for record in records]}
    return {}


def _canonical(kind: str, records: Sequence[str]) -> list[str]:
    canonical = []
    for record in records:
        try:
            rdata = dns.rdata.from_text("IN", kind, record, relativize=False)
        except (dns.exception.DNSException, ValueError) as error:
            raise PartError({"non_field_errors": [str(error)]}) from error
        if len(rdata.to_wire() or b"") > _MAX_RDATA_BYTES:
            raise PartError({"non_field_errors": ["Ensure this value has no more than 64000 byte in wire format."]})
        canonical.append(rdata.to_text(chunksize=0))
    if len(set(canonical)) != len(canonical):
        raise PartError({"non_field_errors": ["Duplicate: records must be semantically unique"]})
    return canonical
