#!/usr/bin/env -S sh -c 'p=$(realpath "$0");p=${p%/*/*/*/*}/.venv/bin/python;[ -x "$p" ]||p=python3;exec "$p" "$0" "$@"'
"""Holds the container open, so that its terminal is there to make and publish an identity in."""

try:
    from idlib.container import hold_open
except ModuleNotFoundError:
    raise SystemExit("Run make setup in the checkout, then start this program without python3 in front.") from None

if __name__ == "__main__":
    hold_open(
        "maintenance",
        "Run here ./create_selfsigned_id.py, or ./create_id_csr.py and then ./install_certificate.py;"
        " at last ./generate_tlsa.py. Each has --help.",
    )
