"""What each path of the API does."""

import urllib.parse

from testbed.desec.bulk_write import BulkWrite
from testbed.desec.exchange import RejectionError, Reply, Request
from testbed.desec.limits import Throttle
from testbed.desec.record_sets import RecordSets
from testbed.desec.tokens import Token, Tokens


class Api:
    """The API of one account.

    Args:
        tokens: What authorizes requests.
        record_sets: What they read and write.
        throttle: Counts them.
    """

    def __init__(self, tokens: Tokens, record_sets: RecordSets, throttle: Throttle) -> None:
        self._tokens = tokens
        self._record_sets = record_sets
        self._throttle = throttle

    def answer(self, request: Request) -> Reply:
        """Return the reply to a request, after the changes that it makes."""
        try:
            return self._process(request)
        except RejectionError as rejection:
            return rejection.reply

    def _process(self, request: Request) -> Reply:
        url = urllib.parse.urlsplit(request.path)
        words = url.path.strip("/").split("/")
        token = self._tokens.authenticate(request.authorization)
        match (request.method, *words):
            case ("GET", "domains", name):
                self._record_sets.require_domain(name)
                self._throttle.count("dns_api_cheap")
                return Reply(200, {"name": name, "minimum_ttl": self._record_sets.minimum_ttls[name], "keys": []})
            case ("GET", "domains", name, "rrsets"):
                self._record_sets.require_domain(name)
                self._throttle.count("dns_api_cheap")
                query = urllib.parse.parse_qs(url.query, keep_blank_values=True)
                return Reply(200, self._record_sets.listed(name, query))
            case ("GET", "domains", name, "rrsets", subname, kind):
                self._record_sets.require_domain(name)
                self._throttle.count("dns_api_cheap")
                key = (name, "" if subname == "@" else subname.removesuffix("..."), kind)
                if key not in self._record_sets.stored:
                    raise RejectionError(404, {"detail": "No RRset matches the given query."})
                return Reply(200, self._record_sets.shown(key))
            case ("PUT" | "PATCH" as method, "domains", name, "rrsets"):
                self._record_sets.require_domain(name)
                self._throttle.count("dns_api_per_domain_expensive", name)
                write = BulkWrite(self._record_sets, token, name, request.document, is_partial=method == "PATCH")
                return Reply(200, write.make())
            case ("POST", "auth", "tokens"):
                self._require_management(token)
                made = self._tokens.add(perm_manage_tokens=False)
                described = {"id": made.id, "name": request.document.get("name", ""), "token": made.secret}
                return Reply(201, {**described, "perm_manage_tokens": False})
            case ("POST", "auth", "tokens", identifier, "policies", "rrsets"):
                self._require_management(token)
                domains = self._record_sets.minimum_ttls
                return Reply(201, self._tokens.add_policy(identifier, request.document, domains))
        raise RejectionError(404, b"<h1>Not Found</h1>")

    def _require_management(self, token: Token) -> None:
        if not token.perm_manage_tokens:
            raise RejectionError(403, {"detail": "You do not have permission to perform this action."})
        self._throttle.count("account_management_passive")
