"""Make a certificate signing request for the device's key, and the key where there is none."""

import sys

from idlib.bootstrap import Bootstrap
from idlib.errors import quoted
from idlib.program.command_line import beside, parser, require_stdout
from idlib.program.environment import read_environment
from idlib.settings import MAINTENANCE_READS


def main() -> None:
    """Make the request, and say what is to be done with it."""
    arguments = parser(
        "Print a certificate signing request for IDENTITY_NAME's private key in CRYPTO_PATH.\n"
        "The key is made where there is none; an existing one is kept and used.",
        "IDENTITY_NAME=alice._device.example.com CRYPTO_PATH=~/messenger/identity {program} > request.pem",
    )
    arguments.add_argument(
        "--force", action="store_true", help="make a new key; the replaced one is kept as NAME.key.previous.pem"
    )
    force = arguments.parse_args().force
    require_stdout()
    identity = Bootstrap.from_settings(read_environment(MAINTENANCE_READS))
    key_path = identity.get_path_for_pki_asset("key")
    if force:
        identity.replace_private_key()
        print("Until its certificate is in place, the device has none that matches its new key.", file=sys.stderr)
    elif identity.has_private_key():
        print(f"The existing key {quoted(key_path)} is kept and used.", file=sys.stderr)
    else:
        identity.generate_private_key()
    identity.generate_csr()
    print(identity.get_pki_asset("csr").decode(), end="")
    print(
        f"Give this request, which is also in {quoted(identity.get_path_for_pki_asset('csr'))}, to your CA.\n"
        f"Its certificate belongs at {quoted(identity.get_path_for_pki_asset('cert'))}; put it there with\n"
        f"  {beside('install_certificate.py', 'identity install')} < certificate.pem\n"
        f"and then run {beside('generate_tlsa.py', 'identity tlsa')}, which shows the record to publish in DNS.",
        file=sys.stderr,
    )
