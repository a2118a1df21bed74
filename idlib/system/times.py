"""Two times that the rules of trust and the senders share; without those rules, which take long to import."""

from typing import Final

# 2026-11-22, when this was written: a clock that shows an earlier time has not been set.
EARLIEST_CREDIBLE_TIME: Final = 1_795_305_600
# How long a bound message is accepted.
MAX_MESSAGE_AGE_SECONDS: Final = 14 * 24 * 3600
