"""Reads the file of release 0.1.0 into the files of today, once."""
