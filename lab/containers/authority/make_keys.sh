#!/bin/sh
# Creates, before the name server's first start: a key for each device that may change its record, the keys that sign the
# zone, the DS record that a resolver has to trust, and finally the zone itself. If the zone exists, nothing is changed.
set -eu
umask 077
[ ! -e /var/lib/knot/example.test.zone ] || exit 0
for device in alice bob; do
    keymgr -t "$device" hmac-sha256 >"/credentials/$device/update.key"
    cp "/credentials/$device/update.key" "/update-keys/$device.conf"
done
keymgr -c /etc/lab/knot.conf example.test. generate algorithm=ecdsap256sha256 ksk=yes zsk=yes >/dev/null
keymgr -c /etc/lab/knot.conf example.test. ds | grep ' 13 2 ' >/trust-anchor/example.test.ds
sed "s/AUTHORITY/$AUTHORITY/" /etc/lab/example.test.zone >/var/lib/knot/example.test.zone.new
mv /var/lib/knot/example.test.zone.new /var/lib/knot/example.test.zone
echo "The resolver trusts the key of example.test with this DS record: $(cut -d' ' -f3- /trust-anchor/example.test.ds)"
