"""Print the TLSA record that publishes the device's key."""

import sys
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from idlib.bootstrap import Bootstrap
from idlib.program.command_line import parser, require_stdout
from idlib.program.environment import read_environment
from idlib.settings import DNS_PORT, MAINTENANCE_READS, ServerAddress

# The resolver that README.md sets up.
_USUAL_RESOLVER: Final = ServerAddress("127.0.0.1")
TIME_TO_LIVE_SECONDS: Final = 300


def main() -> None:
    """Print the record, also as a zone-file line."""
    command_line = parser(
        "Print the TLSA record of IDENTITY_NAME's certificate in CRYPTO_PATH, also as a zone-file line.",
        "IDENTITY_NAME=alice._device.example.com CRYPTO_PATH=~/messenger/identity {program}",
    )
    command_line.add_argument(
        "--selector",
        choices=("0", "1"),
        default="0",
        help="0: the whole certificate (default, for all software); 1: only its public key (a smaller record)",
    )
    selector = command_line.parse_args().selector
    require_stdout()
    settings = read_environment(MAINTENANCE_READS | {"DNS_RESOLVER"})
    identity = Bootstrap.from_settings(settings)
    renderers = {"0": identity.render_tlsa_record, "1": identity.render_public_key_tlsa_record}
    name, record = identity.identity_name, renderers[selector]()
    print(f"TLSA record for {name}: {record}")
    print(f"{name}. {TIME_TO_LIVE_SECONDS} IN TLSA {record}")
    print(
        f"Publish it at {name} in a zone that is signed with DNSSEC. Look it up only after that, because a resolver"
        " may cache the missing record for an hour:"
        f" dig {_server_of_dig(settings.dns_resolver or _USUAL_RESOLVER)} +dnssec {name} TLSA",
        file=sys.stderr,
    )
    if selector == "1" or not isinstance(identity.get_private_key_obj(), rsa.RSAPrivateKey):
        print(
            "Devices with this software can use this record; dane-jwe-jws can only use RSA keys in 3 0 0 records.",
            file=sys.stderr,
        )


def _server_of_dig(server: ServerAddress) -> str:
    """Return dig's arguments for this server."""
    port = "" if server.port == DNS_PORT else f" -p {server.port}"
    return f"@{server.address}{port}"
