"""Changes records by DNS dynamic update (RFC 2136), signed with TSIG (RFC 8945)."""

from collections.abc import Sequence
from typing import Final

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.tsig
import dns.update

from idlib.errors import ConcurrentChangeError, CredentialError, NotServedError, PublishingError
from idlib.names import IdentityName
from idlib.publishing.change import Change, TlsaSet
from idlib.publishing.name_servers import read_from
from idlib.publishing.zone import Zone
from idlib.settings import ServerAddress

_SECONDS: Final = 10.0
# A record that nobody publishes; deleting it changes nothing, and needs the permission to change the name.
_NEVER_PUBLISHED: Final = bytes((3, 1, 1)) + bytes(32)


class DynamicUpdate:
    """Changes the records of one name at the server that accepts updates.

    Args:
        name: The owner of the records.
        zone: The zone of the name.
        servers: The addresses of the server, tried in order.
        key: Signs the updates.
    """

    def __init__(self, name: IdentityName, zone: Zone, servers: Sequence[ServerAddress], key: dns.tsig.Key) -> None:
        self._name = name
        self._owner = dns.name.from_text(name.text)
        self._zone = zone
        self._servers = tuple(servers)
        self._key = key

    def read(self) -> TlsaSet:
        """Return the records that the server has; see `Publisher`."""
        failures = []
        for server in self._servers:
            try:
                return read_from(server, self._name)
            except NotServedError as error:
                failures.append(f"{server}: {error.fact}")
        raise PublishingError(
            f"the update server does not answer for {self._name}: {'; '.join(failures)}",
            "set DNS_UPDATE_SERVER to the server that has the zone, or start it",
        )

    def lowest_ttl(self) -> int:
        """Return 0, because a server accepts any TTL; see `Publisher`."""
        return 0

    def apply(self, change: Change) -> None:
        """Send one update with the records that it starts from as its prerequisite; see `Publisher`."""
        update = dns.update.UpdateMessage(dns.name.from_text(self._zone.name), keyring=self._key)
        if change.before.rdatas:
            update.present(self._owner, _rdataset(change.before.rdatas, 0))
        else:
            update.absent(self._owner, dns.rdatatype.TLSA)
        if change.before.ttl != change.after.ttl:
            update.delete(self._owner, dns.rdatatype.TLSA)
            added = change.after.rdatas
        else:
            if change.remove:
                update.delete(self._owner, _rdataset(change.remove, 0))
            added = change.add
        if added:
            update.add(self._owner, _rdataset(added, change.after.ttl))
        self._send(update)

    def check(self) -> None:
        """Send an update that deletes a record that does not exist; see `Publisher`."""
        update = dns.update.UpdateMessage(dns.name.from_text(self._zone.name), keyring=self._key)
        update.delete(self._owner, _rdataset([_NEVER_PUBLISHED], 0))
        self._send(update)

    def _send(self, update: dns.update.UpdateMessage) -> None:
        unreachable = []
        for server in self._servers:
            try:
                answer = dns.query.tcp(update, server.address, _SECONDS, server.port)
            except (dns.tsig.PeerError, dns.tsig.BadSignature, dns.tsig.BadTime, dns.tsig.BadKey) as error:
                raise _rejected_key(server, self._key, error) from error
            except dns.exception.Timeout:
                unreachable.append(f"{server} did not answer in time")
            except OSError as error:
                unreachable.append(f"{server} cannot be reached: {error.strerror or error}")
            except (dns.exception.DNSException, EOFError) as error:
                raise PublishingError(
                    f"the answer of the update server {server} cannot be read", "look at that server's log"
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
                    f"the records of {self._name} were changed by someone else meanwhile", "run the command again"
                )
            case dns.rcode.REFUSED:
                raise CredentialError(
                    f"{server} does not let the key {_shown(self._key.name)} change TLSA records at {self._name}",
                    "allow it in the server's configuration (acl in Knot, update-policy in BIND; see docs/dns.md)",
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


def _rejected_key(server: ServerAddress, key: dns.tsig.Key, error: dns.exception.DNSException) -> CredentialError:
    name = _shown(key.name)
    if isinstance(error, dns.tsig.PeerBadKey):
        return CredentialError(f"{server} has no TSIG key {name}", "check the key's name and algorithm on the server")
    if isinstance(error, dns.tsig.PeerBadTime | dns.tsig.BadTime):
        return CredentialError(
            f"{server} rejects the update, because its clock differs from the clock here", "set both clocks"
        )
    return CredentialError(
        f"{server} rejects the signature by the TSIG key {name}", "check that both sides have the same secret"
    )


def _rdataset(rdatas: Sequence[bytes], ttl: int) -> dns.rdataset.Rdataset:
    # Generic, because dnspython's class for the type refuses malformed records, which others may have published.
    records = [dns.rdata.GenericRdata(dns.rdataclass.IN, dns.rdatatype.TLSA, rdata) for rdata in rdatas]
    return dns.rdataset.from_rdata_list(ttl, records)


def _shown(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True)
