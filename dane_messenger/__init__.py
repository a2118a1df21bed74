"""The command `dane-messenger`, with a verb for each program."""
