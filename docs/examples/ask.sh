#!/bin/sh
# Ask a device for its load, and print the answer: ./ask.sh bob._device.example.com
dane-messenger send --expires 60 "$1" 'load?' || exit
answer=$(OUTPUT_FORMAT=json dane-messenger receive -C 1 -W 10 --from "$1") || exit
printf '%s\n' "$answer" | jq -r .message
