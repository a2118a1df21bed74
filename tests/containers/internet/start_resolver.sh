#!/bin/sh
# The image's own configuration, and the root of the small Internet: $1 is the address of its name server.
set -eu
until [ -s /trust-anchor/root.key ]; do sleep 0.1; done
cat >/tmp/unbound.conf <<END
include: /etc/unbound/unbound.conf
server:
    trust-anchor-file: /trust-anchor/root.key
stub-zone:
    name: "."
    stub-addr: $1
END
exec unbound -d -c /tmp/unbound.conf
