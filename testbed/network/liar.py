"""A resolver that forges every TLSA answer and sets the AD bit; it gives the true answer to any other query.

As a program: `liar.py ADDRESS UPSTREAM_PORT RECORD`, with the record in presentation form.
"""

import socketserver
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Final

if __name__ == "__main__":
    # A script has its own directory on the path, not the root of the checkout.
    sys.path[0] = str(Path(__file__).parents[2])

import dns.flags
import dns.message
import dns.query
import dns.rrset
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType

from testbed.daemons.namespace import Namespace
from testbed.daemons.process import LOOPBACK, Daemon

_PORT: Final = 53
_READY: Final = "lying"
_MAX_MESSAGE_BYTES: Final = 65535
_SECONDS: Final = 10


class Liar(Daemon):
    """A resolver at port 53, over UDP and TCP, with the same record for every name.

    Args:
        directory: An existing directory for its log.
        address: Its address.
        upstream: The port of the resolver on loopback that it asks.
        record: The TLSA record that each name gets, as `3 0 0 HEX`.
        namespace: The network namespace that it runs in.
    """

    def __init__(self, directory: Path, address: str, upstream: int, record: str, namespace: Namespace) -> None:
        super().__init__(
            [sys.executable, __file__, address, str(upstream), record],
            directory / "liar.log",
            lambda log: _READY in log,
            namespace,
        )


def _answer(upstream: int, record: str, wire: bytes) -> bytes:
    query = dns.message.from_wire(wire)
    if query.question[0].rdtype != RdataType.TLSA:
        return dns.query.tcp(query, LOOPBACK, _SECONDS, upstream).to_wire(max_size=_MAX_MESSAGE_BYTES)
    response = dns.message.make_response(query, recursion_available=True)
    response.flags |= dns.flags.AD
    response.answer = [dns.rrset.from_text(query.question[0].name, 60, RdataClass.IN, RdataType.TLSA, record)]
    return response.to_wire(max_size=_MAX_MESSAGE_BYTES)


class _Datagram(socketserver.BaseRequestHandler):
    def __init__(self, upstream: int, record: str, *arguments: object) -> None:
        self._answer = partial(_answer, upstream, record)
        super().__init__(*arguments)  # type: ignore[arg-type]

    def handle(self) -> None:
        wire, socket = self.request
        socket.sendto(self._answer(wire), self.client_address)


class _Stream(socketserver.StreamRequestHandler):
    def __init__(self, upstream: int, record: str, *arguments: object) -> None:
        self._answer = partial(_answer, upstream, record)
        super().__init__(*arguments)  # type: ignore[arg-type]

    def handle(self) -> None:
        while size := self.rfile.read(2):
            answer = self._answer(self.rfile.read(int.from_bytes(size)))
            self.wfile.write(len(answer).to_bytes(2) + answer)


def _main(address: str, upstream: int, record: str) -> None:
    servers = (
        socketserver.ThreadingUDPServer((address, _PORT), partial(_Datagram, upstream, record)),
        socketserver.ThreadingTCPServer((address, _PORT), partial(_Stream, upstream, record)),
    )
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    print(_READY, flush=True)


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
