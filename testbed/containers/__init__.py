"""The container engine, and the stack and the lab that run in it."""
