"""The embedded environment of `make demo`: a signed zone, its name server, a broker, and the demo itself."""
