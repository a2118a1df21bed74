"""`make hostile`: strangers attack a receiver under its container's limits while known senders use it."""
