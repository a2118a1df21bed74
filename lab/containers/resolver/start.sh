#!/bin/sh
# Tells Unbound where the zone's name server is (AUTHORITY, an IP address), which only the Compose file knows.
set -eu
printf 'stub-zone:\n    name: "example.test."\n    stub-addr: %s\n' "$AUTHORITY" >/run/unbound/authority.conf
exec unbound -d -c /etc/lab/unbound.conf
