#!/bin/bash
# Well where the resolver gives a validated answer (the AD bit, RFC 4035) to who asks for the root's SOA record.
set -eu
exec 3<>/dev/udp/127.0.0.1/53
# RD and AD set, one question: the root, SOA, IN.
printf '\x12\x34\x01\x20\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x06\x00\x01' >&3
header=($(timeout 5 head -c 12 <&3 2>/dev/null | od -An -v -t u1)) || true
if [ ${#header[@]} -ne 12 ]; then
    echo 'no answer: has it just been started?'
elif ((header[3] & 15)); then
    echo "error $((header[3] & 15)): is port 53 to the Internet open, and the clock right?"
elif ! ((header[3] & 32)); then
    echo 'the answer is not validated'
else
    echo 'ok: answers are validated'
    exit 0
fi
exit 1
