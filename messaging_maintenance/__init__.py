"""The maintenance programs: keys, certificates and records."""
