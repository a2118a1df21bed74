"""Changes records by DNS dynamic update (RFC 2136), signed with TSIG (RFC 8945)."""

import time
from collections.abc import Sequence
from typing import Final

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.tsig
import dns.update
from dns.rdatatype import RdataType

from idlib.discovery.messages import UnusableAnswerError
from idlib.discovery.resolver import over_tcp
from idlib.errors import ConcurrentChangeError, CredentialError, NotServedError, PublishingError
from idlib.publishing.change import Change, PublishedSet
from idlib.publishing.name_servers import read_from
from idlib.publishing.record_types import Place
from idlib.publishing.zone import Zone
from idlib.settings import ServerAddress

_SECONDS: Final = 10.0
_APPLY_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.5


class DynamicUpdate:
    """Changes the records at one place at the server that accepts updates.

    Args:
        place: Where the records are.
        zone: The zone of that place.
        servers: The addresses of the server, tried in order.
        key: Signs the updates.
    """

    def __init__(self, place: Place, zone: Zone, servers: Sequence[ServerAddress], key: dns.tsig.Key) -> None:
        self._place = place
        self._owner = dns.name.from_text(place.owner.text)
        self._zone = zone
        self._servers = tuple(servers)
        self._key = key

    def read(self) -> PublishedSet:
        """Return the records that the server has; see `Publisher`."""
        failures = []
        for server in self._servers:
            try:
                return read_from(server, self._place)
            except NotServedError as error:
                failures.append(f"{server}: {error.fact}")
        raise PublishingError(
            f"the update server does not answer for {self._place.owner}: {'; '.join(failures)}",
            "set DNS_UPDATE_SERVER to the server that has the zone, or start it",
        )

    def lowest_ttl(self) -> int:
        """Return 0, because a server accepts any TTL; see `Publisher`."""
        return 0

    def apply(self, change: Change) -> None:
        """Send one update with the records that it starts from as its prerequisite; see `Publisher`."""
        update = dns.update.UpdateMessage(dns.name.from_text(self._zone.name), keyring=self._key)
        if change.before.rdatas:
            update.present(self._owner, self._rdataset(change.before.rdatas, 0))
        else:
            update.absent(self._owner, self._place.type.rdatatype)
        if change.before.ttl != change.after.ttl:
            update.delete(self._owner, self._place.type.rdatatype)
            added = change.after.rdatas
        else:
            if change.remove:
                update.delete(self._owner, self._rdataset(change.remove, 0))
            added = change.add
        if added:
            update.add(self._owner, self._rdataset(added, change.after.ttl))
        self._send(update)
        self._expect_another_set(change)

    def _expect_another_set(self, change: Change) -> None:
        """Check that the records are no longer those before the change.

        A server may accept an update and ignore it: at an alias (RFC 2136, section 3.4.2.2), or because of a policy.
        """
        deadline = time.monotonic() + _APPLY_SECONDS
        while self.read() == change.before:
            if time.monotonic() >= deadline:
                raise PublishingError(
                    f"the update server has accepted the update, but not changed the records of {self._place.owner}",
                    f"check that the key {_shown(self._key.name)} may change them (lua-dnsupdate-policy-script in"
                    " PowerDNS), and that the name is not an alias (CNAME)",
                )
            time.sleep(_PAUSE_SECONDS)

    def check(self) -> None:
        """Send an update that deletes a record that does not exist; see `Publisher`."""
        update = dns.update.UpdateMessage(dns.name.from_text(self._zone.name), keyring=self._key)
        update.delete(self._owner, self._rdataset([self._place.type.never_published], 0))
        self._send(update)

    def renew(self) -> None:
        """Do nothing, because a name server keeps a zone without writes; see `Publisher`."""

    def _send(self, update: dns.update.UpdateMessage) -> None:
        unreachable = []
        for server in self._servers:
            try:
                answer = _exchange(server, update)
            except (dns.tsig.PeerError, dns.tsig.BadSignature, dns.tsig.BadTime, dns.tsig.BadKey) as error:
                raise self._rejected_key(server, error) from error
            except TimeoutError:
                unreachable.append(f"{server} did not answer in time")
            except OSError as error:
                unreachable.append(f"{server} cannot be reached: {error.strerror or error}")
            except (dns.exception.DNSException, UnusableAnswerError) as error:
                raise PublishingError(
                    f"the answer of the update server {server} cannot be used", "look at that server's log"
                ) from error
            else:
                self._judge(answer, server)
                return
        raise PublishingError(
            f"no update server was reached: {'; '.join(unreachable)}", "set DNS_UPDATE_SERVER to the right server"
        )

    def _judge(self, answer: dns.message.Message, server: ServerAddress) -> None:
        code = answer.rcode()
        if code == dns.rcode.NOERROR and answer.had_tsig:
            return
        match code:
            case dns.rcode.NOERROR:
                raise CredentialError(
                    f"the answer of {server} is not signed with the key {_shown(self._key.name)}",
                    "something between this device and the server alters answers, or the server ignores the key",
                )
            case dns.rcode.NXRRSET | dns.rcode.YXRRSET | dns.rcode.NXDOMAIN | dns.rcode.YXDOMAIN:
                raise ConcurrentChangeError(
                    f"the records of {self._place.owner} were changed by someone else meanwhile",
                    "run the command again",
                )
            case dns.rcode.REFUSED if answer.had_tsig:
                raise self._not_permitted(server)
            case dns.rcode.REFUSED:
                raise CredentialError(
                    f"{server} refuses the update with the TSIG key {_shown(self._key.name)}",
                    "check there the key's name, algorithm and secret, that updates are enabled, and that the key may"
                    f" change {self._place} (the server's log has the reason; see docs/dns.md)",
                )
            case dns.rcode.NOTAUTH | dns.rcode.NOTZONE:
                raise PublishingError(
                    f"{server} does not serve the zone {self._zone.name} as its primary, or does not know the key"
                    f" {_shown(self._key.name)}",
                    "set DNS_UPDATE_SERVER to the primary server, and check the key's name there",
                )
            case dns.rcode.NOTIMP:
                raise PublishingError(
                    f"{server} does not accept dynamic updates", "enable them there, or use another DNS_PUBLISH"
                )
        raise PublishingError(
            f"{server} answers {dns.rcode.to_text(code)} to the update", "look at that server's log and try again"
        )

    def _rejected_key(self, server: ServerAddress, error: dns.exception.DNSException) -> CredentialError:
        name = _shown(self._key.name)
        if isinstance(error, dns.tsig.PeerBadKey):
            if self._is_known_to(server):
                return self._not_permitted(server)
            return CredentialError(
                f"{server} has no TSIG key {name} of this algorithm, or it may change nothing in {self._zone.name}",
                "check the key's name, its algorithm, and what it may change there (see docs/dns.md)",
            )
        if isinstance(error, dns.tsig.PeerBadTime | dns.tsig.BadTime):
            return CredentialError(
                f"{server} rejects the update, because its clock differs from the clock here", "set both clocks"
            )
        return CredentialError(
            f"{server} rejects the signature by the TSIG key {name}", "check that both sides have the same secret"
        )

    def _not_permitted(self, server: ServerAddress) -> CredentialError:
        return CredentialError(
            f"{server} does not let the key {_shown(self._key.name)} change {self._place}",
            "allow it in the server's configuration (acl in Knot, update-policy in BIND; see docs/dns.md)",
        )

    def _rdataset(self, rdatas: Sequence[bytes], ttl: int) -> dns.rdataset.Rdataset:
        # Generic, because dnspython's class for the type refuses malformed records, which others may have published.
        kind = self._place.type.rdatatype
        records = [dns.rdata.GenericRdata(dns.rdataclass.IN, kind, rdata) for rdata in rdatas]
        return dns.rdataset.from_rdata_list(ttl, records)

    def _is_known_to(self, server: ServerAddress) -> bool:
        """Return whether a server accepts the key for a query: Knot calls it unknown if it may not make an update."""
        query = dns.message.make_query(self._zone.name, RdataType.SOA)
        query.use_tsig(self._key)
        try:
            return _exchange(server, query).had_tsig
        except (dns.exception.DNSException, UnusableAnswerError, OSError):
            return False


def _exchange(server: ServerAddress, query: dns.message.Message) -> dns.message.Message:
    """Return a server's answer to a signed message; `had_tsig` says whether the answer is signed, too."""
    wire = query.to_wire()
    received = over_tcp(server, wire, time.monotonic() + _SECONDS)
    try:
        answer = dns.message.from_wire(received, keyring=query.keyring, request_mac=query.mac)
    except dns.exception.FormError:
        # As PowerDNS sends it, if it rejects the key.
        answer = dns.message.from_wire(received)
    if not query.is_response(answer):
        raise UnusableAnswerError("it answered something else")
    return answer


def _shown(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True)
