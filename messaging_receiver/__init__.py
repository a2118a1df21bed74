"""The receiver: three queues and their threads, from an encrypted message to a line on stdout."""
