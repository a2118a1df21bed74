"""What the receiver may use while it is attacked: each bound is about three times the measured value, or a promise."""

from typing import Final

# A promise: known senders' 99th percentile while junk comes at half the rate that this receiver can handle.
DELAY_SECONDS: Final = 1.0
# A promise of docs/limits.md: resident at most, with the default MAX_MESSAGE_SIZE.
MEMORY_BYTES: Final = 100_000_000
# Below DATA_PATH, everything together; measured 14 to 25 MB in a minute of attack.
DISK_BYTES: Final = 80_000_000
# Of the log, in the worst ten seconds; measured 800 to 2300.
LOG_BYTES_A_SECOND: Final = 7_000
# Of one processor, once the attack is over; measured 0.5 % to 6 %, because thousands of names of dead domains are
# looked up as long as their messages wait.
IDLE_SHARE: Final = 0.2
# Of the receipts that a known sender asks for while strangers ask too.
CONFIRMED_SHARE: Final = 0.9
# What kills may repeat, for each of them.
REPEATED_BY_A_KILL: Final = 32
