"""The receiver: threads and three queues that turn encrypted messages into lines on stdout."""
