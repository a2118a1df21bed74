"""`make chaos`: messages flow while what carries them is killed, cut off and restarted; then the books are compared."""
