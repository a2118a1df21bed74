"""What the operating system offers and limits: clock, signals, log lines; imports nothing else of idlib."""
