#!/bin/sh
# Starts Unbound with the root keys that it has kept, and those that came with the image.
set -eu
# If a key cannot be added, for example because the disk is full, the stored keys are enough to start.
seed_root_key.sh /usr/share/dns/root.key /var/lib/unbound/root.key || [ -s /var/lib/unbound/root.key ]
exec unbound -d "$@"
