#!/bin/sh
# The real resolver's configuration, but that the name server of the lab's zone is at AUTHORITY, an IP address which only
# the Compose file knows, and that the zone's own key is trusted instead of the root's.
set -eu
grep -v auto-trust-anchor-file /etc/unbound/unbound.conf >/run/unbound/unbound.conf
cat >>/run/unbound/unbound.conf <<END
server:
    trust-anchor-file: "/trust-anchor/example.test.ds"
    # Unbound answers for .test itself otherwise, with a proof that it does not exist.
    local-zone: "test." nodefault
stub-zone:
    name: "example.test."
    stub-addr: $AUTHORITY
END
exec unbound -d -c /run/unbound/unbound.conf
