"""The user's own broker at home: its address, how to reach it, and what to do if that fails.

Nothing here is imported unless LOCAL_MQTT_URL is set, except by `identity check`.
"""
