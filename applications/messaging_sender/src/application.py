#!/usr/bin/env -S sh -c 'p=${0%/*}/../../../.venv/bin/python; [ -x "$p" ] || p=python3; exec "$p" "$0" "$@"'
"""Holds the container open, so that its terminal is there to send messages from."""

from idlib.container import hold_open

if __name__ == "__main__":
    hold_open("messaging_sender", "Run here ./send_message.py RECIPIENT MESSAGE; --help tells more.")
