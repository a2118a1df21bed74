#!/bin/bash
# Exits with 0 if the resolver gives a validated answer (the AD bit, RFC 4035) to a query for the root's SOA record.
set -eu

# ask FLAGS DO: sets `answer` to the bytes of the answer, in hexadecimal with a space before each; empty without one.
ask() {
    exec 3<>/dev/udp/127.0.0.1/53
    # One question, the root's SOA record of class IN; and an OPT record with room for 1232 bytes (RFC 6891).
    printf "\x12\x34$1\x00\x01\x00\x00\x00\x00\x00\x01\x00\x00\x06\x00\x01\x00\x00\x29\x04\xd0\x00\x00$2\x00\x00\x00" >&3
    answer=$(timeout 4 dd bs=4096 count=1 <&3 2>/dev/null | od -An -v -w4096 -t x1) || true
    exec 3<&-
}

# byte N: the Nth byte of the answer.
byte() {
    echo $((16#${answer:$((3 * $1 + 1)):2}))
}

# Checks that the time is within the validity of the answer's signature: the RRSIG record has its expiration first, then
# its inception (RFC 4034, section 3.1). Without a signature there is nothing to check the clock against.
clock_fits() {
    local signature='00 2e 00 01 .{12}.{6}00 06 .{6}.{12}(.{11}) (.{11})'
    [[ $answer =~ $signature ]] || return 0
    local now expiration inception
    now=$(date +%s)
    expiration=$((16#${BASH_REMATCH[1]// /}))
    inception=$((16#${BASH_REMATCH[2]// /}))
    ((inception <= now && now <= expiration))
}

# RD and AD.
ask '\x01\x20' '\x00\x00'
if [ -z "$answer" ]; then
    echo 'no answer: has it just been started, or is the Internet out of reach?'
    exit 1
fi
code=$(($(byte 3) & 15))
if ((code == 0 && $(byte 3) & 32)); then
    echo 'ok: answers are validated'
    exit 0
elif ((code == 0)); then
    echo 'the answer is not validated'
    exit 1
fi
# RD and CD, with signatures: the same query without validation shows if the network, the keys or the clock are at fault.
ask '\x01\x10' '\x80\x00'
if [ -z "$answer" ] || (($(byte 3) & 15)); then
    echo "error $code: is port 53 to the Internet open?"
elif ! clock_fits; then
    echo "error $code: the clock is wrong: it shows $(date -u '+%F %H:%M') UTC"
else
    echo "error $code: the root key does not fit: update the image"
fi
exit 1
