#!/bin/sh
# Starts Unbound with the root keys that it has kept, and those that came with the image.
set -eu
# A key that cannot be added now, as on a full disk, is no reason to go without the others.
seed_root_key.sh /usr/share/dns/root.key /var/lib/unbound/root.key || [ -s /var/lib/unbound/root.key ]
exec unbound -d "$@"
