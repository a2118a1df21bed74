"""Restarts a program of the checkout with the Python of its virtual environment."""

import os
import sys
from pathlib import Path

ENVIRONMENT = Path(__file__).resolve().parents[1] / ".venv"

python = ENVIRONMENT / "bin" / "python"
if Path(sys.prefix).resolve() == ENVIRONMENT or not os.access(python, os.X_OK):
    raise SystemExit("Error: dane-mqtt-messenger is not installed for this Python; run make setup in the checkout")
# sys.argv[0] is this file.
program = sys.modules["__main__"].__file__
os.execv(python, [str(python), str(program), *sys.argv[1:]])  # noqa: S606  # the program that the user started
