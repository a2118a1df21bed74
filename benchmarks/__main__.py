"""All benchmarks: what `make bench` prints."""

import sys

from benchmarks import receiver, sender
from benchmarks.table import show

if __name__ == "__main__":
    sys.exit(show(receiver.compare, sender.compare))
