"""Generates completion scripts and man pages from the parsers while the wheel is built."""
