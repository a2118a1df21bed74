import sys
from pathlib import Path

# The sender's modules import each other as a program started by its path does.
sys.path.insert(0, str(Path(__file__).parents[3] / "applications" / "messaging_sender" / "src"))
