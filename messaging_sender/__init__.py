"""The sender: send_message.py, and the resident sender that delivers queued messages."""
