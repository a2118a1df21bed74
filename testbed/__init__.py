"""What tests, chaos, hostile, fuzz and benchmarks share: daemons, labs, programs, messages."""
