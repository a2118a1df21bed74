"""Keeps the container open, so that an identity can be created and published at its terminal."""

from idlib.program.container import hold_open


def main() -> None:
    """Wait for SIGTERM or SIGINT."""
    hold_open(
        "maintenance",
        "Run here ./create_selfsigned_id.py, or ./create_id_csr.py and then ./install_certificate.py;"
        " at last ./generate_tlsa.py. Each has --help.",
    )
