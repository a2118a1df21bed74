#!/bin/sh
# Serves the root zone; before the first start makes its key and hands that to the resolver.
set -eu
if [ ! -e /var/lib/knot/root.zone ]; then
    keymgr -c /internet/knot.conf . generate algorithm=ecdsap256sha256 ksk=yes zsk=yes >/dev/null
    keymgr -c /internet/knot.conf . dnskey >/trust-anchor/root.key.new
    mv /trust-anchor/root.key.new /trust-anchor/root.key
    cp /internet/root.zone /var/lib/knot/
fi
exec knotd -c /internet/knot.conf
