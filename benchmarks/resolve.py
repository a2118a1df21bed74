"""Asks the resolver for the records of many names at once, so that it has them in its cache.

Usage: resolve.py NUMBER ZONE, with the environment variables of send_message.py.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from idlib import settings
from idlib.discovery import Discovery
from idlib.names import IdentityName

_AT_ONCE: Final = 64


def main() -> None:
    """Ask for each name."""
    number, zone = int(sys.argv[1]), sys.argv[2]
    discovery = Discovery.from_settings(settings.load(os.environ))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(discovery.find, (IdentityName(f"sensor-{index}.{zone}") for index in range(number))):
            pass


if __name__ == "__main__":
    main()
