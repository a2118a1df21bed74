"""`make chaos`: injects faults while messages flow, then compares what was sent with what was printed."""
