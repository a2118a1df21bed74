"""A DNS_PUBLISH_COMMAND for tests that shift the clock: it sends a dynamic update, whose TSIG needs the right time.

Usage: publish_command.py PORT KEY_FILE. Start it without PYTHONPATH, by which the clock is shifted.
"""

import json
import sys
from pathlib import Path

import dns.query
import dns.rcode
import dns.update

from idlib.publishing.tsig_key import read_tsig_key
from testbed.daemons.process import LOOPBACK


def _main(port: str, key_file: str) -> int:
    change = json.load(sys.stdin)
    kind = change["type"]
    records = change["records_txt" if kind == "TXT" else "records"]
    update = dns.update.UpdateMessage(change["zone"], keyring=read_tsig_key(Path(key_file)))
    update.delete(f"{change['name']}.", kind)
    for record in records:
        update.add(f"{change['name']}.", change["ttl"], kind, record)
    answer = dns.query.tcp(update, LOOPBACK, port=int(port), timeout=10)
    return 0 if answer.rcode() == dns.rcode.NOERROR else 1


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
