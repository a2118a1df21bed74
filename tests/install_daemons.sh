#!/bin/sh
# Installs the daemons that the integration tests run, where this user may; else names what is missing and fails.
set -eu
missing=""
need() {
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need mosquitto mosquitto
need mosquitto_pub mosquitto-clients
need knotd knot
need kdig knot-dnsutils
need unbound unbound
need ip iproute2
need openssl openssl
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing$missing" >&2
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    # The packages' own services must not start: the tests bring their own configurations.
    if ! { apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $missing; } >"$log" 2>&1; then
        cat "$log" >&2
        exit 1
    fi
    rm -f "$log"
else
    echo "The integration tests need:$missing. Install them, on Debian: sudo apt-get install$missing" >&2
    exit 1
fi
