"""`make hostile`: strangers attack a receiver under its container's limits, beside senders that it knows."""
