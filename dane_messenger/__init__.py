"""The command `dane-messenger`, one verb for each program."""
