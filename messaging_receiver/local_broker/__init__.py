"""The user's own broker at home: received messages are published there, and messages to be sent are taken from there.

Nothing here is imported unless LOCAL_MQTT_URL is set.
"""
