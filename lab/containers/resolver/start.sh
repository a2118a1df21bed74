#!/bin/sh
# Starts Unbound with the real resolver's configuration and two changes: queries for the lab's zone go to AUTHORITY, an IP
# address that the Compose file sets, and the zone's own key is trusted instead of the root's.
set -eu
grep -v auto-trust-anchor-file /etc/unbound/unbound.conf >/run/unbound/unbound.conf
cat >>/run/unbound/unbound.conf <<END
server:
    trust-anchor-file: "/trust-anchor/example.test.ds"
    # Otherwise Unbound itself answers that .test does not exist.
    local-zone: "test." nodefault
stub-zone:
    name: "example.test."
    stub-addr: $AUTHORITY
END
exec unbound -d -c /run/unbound/unbound.conf
