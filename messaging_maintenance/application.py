"""Keeps the container running, so that an identity can be created and published in its terminal."""

from idlib.program.keep_open import keep_open


def main() -> None:
    """Wait for SIGTERM or SIGINT."""
    keep_open(
        "maintenance",
        "Run ./create_selfsigned_id.py, or ./create_id_csr.py and then ./install_certificate.py;"
        " finally run ./generate_tlsa.py. Each has --help.",
    )
