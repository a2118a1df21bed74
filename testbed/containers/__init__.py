"""A container engine, and the stack and the lab in it."""
