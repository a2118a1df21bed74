#!/bin/sh
# Creates, before the name server's first start: the key for updates of the zone, the keys that sign it, the DS record that
# a resolver has to trust, and finally the zone itself. If the zone exists, everything does, and nothing is changed.
set -eu
umask 077
[ ! -e /var/lib/knot/example.test.zone ] || exit 0
keymgr -t publisher hmac-sha256 >/update-key/key.conf
keymgr -c /etc/lab/knot.conf example.test. generate algorithm=ecdsap256sha256 ksk=yes zsk=yes >/dev/null
keymgr -c /etc/lab/knot.conf example.test. ds | grep ' 13 2 ' >/trust-anchor/example.test.ds
cp /etc/lab/example.test.zone /var/lib/knot/example.test.zone.new
mv /var/lib/knot/example.test.zone.new /var/lib/knot/example.test.zone
echo "The resolver trusts the key of example.test with this DS record: $(cut -d' ' -f3- /trust-anchor/example.test.ds)"
