"""Every metric of the services.

A new one also needs its reading in `metrics.py` of each service that has it, its row in docs/monitoring.md, and a panel
of docs/grafana-dashboard.json.
"""

from typing import Final

from idlib.metrics.readings import Kind, Metric

BUILD_INFO: Final = Metric(
    "dane_messenger_build_info",
    Kind.GAUGE,
    "Always 1; the labels tell what is running",
    ("service", "version", "python"),
)
HEALTHY: Final = Metric(
    "dane_messenger_healthy", Kind.GAUGE, "Whether the service is healthy, as --health tells: 1 or 0"
)

RECEIVED: Final = Metric(
    "dane_messenger_messages_received_total", Kind.COUNTER, "Messages that arrived from the broker"
)
PRINTED: Final = Metric(
    "dane_messenger_messages_printed_total",
    Kind.COUNTER,
    "Messages that were printed, by the kind of key that they were encrypted to",
    ("sealed",),
)
REFUSED: Final = Metric(
    "dane_messenger_messages_refused_total", Kind.COUNTER, "Messages that were refused, by reason code", ("reason",)
)
SET_ASIDE: Final = Metric(
    "dane_messenger_messages_set_aside_total",
    Kind.COUNTER,
    "Messages that the command of --exec has failed to process, or the local broker has refused, three times each",
)
DEFERRED: Final = Metric("dane_messenger_deferred_messages", Kind.GAUGE, "Messages that wait for DNS or the clock")
QUEUED: Final = Metric(
    "dane_messenger_queue_messages", Kind.GAUGE, "Messages in the queues between the receiver's stages", ("queue",)
)
WORKER_PROCESSES: Final = Metric("dane_messenger_worker_processes", Kind.GAUGE, "Running processes that open messages")
WORKER_REPLACEMENTS: Final = Metric(
    "dane_messenger_worker_replacements_total", Kind.COUNTER, "Worker processes that ended and were replaced"
)
SUBSCRIBED: Final = Metric(
    "dane_messenger_subscribed", Kind.GAUGE, "Whether the receiver is connected and subscribed: 1 or 0"
)
LEASE_VALID: Final = Metric(
    "dane_messenger_lease_valid",
    Kind.GAUGE,
    "With STORE, whether the lease of the receiver is valid, without which it prints nothing: 1 or 0",
)
RECEIVERS: Final = Metric(
    "dane_messenger_receivers",
    Kind.GAUGE,
    "With STORE, how many receivers of the name had a valid lease at the last renewal",
)
OWN_RECORD_PRESENT: Final = Metric(
    "dane_messenger_own_record_present",
    Kind.GAUGE,
    "Whether DNS had the record of the device's key when it last answered: 1 or 0",
)
CERTIFICATE_EXPIRY: Final = Metric(
    "dane_messenger_certificate_expiry_timestamp_seconds", Kind.GAUGE, "When the device's certificate expires"
)
LOCAL_BROKER_CONNECTED: Final = Metric(
    "dane_messenger_local_broker_connected",
    Kind.GAUGE,
    "Whether the receiver is connected to the broker in LOCAL_MQTT_URL: 1 or 0",
)
LOCAL_BROKER_PUBLISHED: Final = Metric(
    "dane_messenger_local_broker_published_total", Kind.COUNTER, "Messages that the local broker has acknowledged"
)
LOCAL_BROKER_TAKEN: Final = Metric(
    "dane_messenger_local_broker_taken_total",
    Kind.COUNTER,
    "Messages that were taken from the local broker and put into the outbox",
)
EPOCH_KEYS: Final = Metric("dane_messenger_epoch_keys", Kind.GAUGE, "Epoch keys whose private halves are on the device")
EPOCH_KEY_EXPIRY: Final = Metric(
    "dane_messenger_epoch_key_expiry_timestamp_seconds",
    Kind.GAUGE,
    "When the private half of the newest epoch key will be destroyed",
)
LOOK_UPS: Final = Metric(
    "dane_messenger_dns_lookup_duration_seconds",
    Kind.HISTOGRAM,
    "How long look-ups in DNS took, without those from the cache; answered ones and failed ones",
    ("outcome",),
)

OUTBOX_MESSAGES: Final = Metric("dane_messenger_outbox_messages", Kind.GAUGE, "Messages in the outbox")
OUTBOX_BYTES: Final = Metric(
    "dane_messenger_outbox_bytes", Kind.GAUGE, "Size of the messages in the outbox, as counted for its limit"
)
OUTBOX_OLDEST: Final = Metric(
    "dane_messenger_outbox_oldest_timestamp_seconds", Kind.GAUGE, "When the oldest message in the outbox was queued"
)
DELIVERED: Final = Metric(
    "dane_messenger_messages_delivered_total", Kind.COUNTER, "Queued messages that the broker has acknowledged"
)
DROPPED: Final = Metric(
    "dane_messenger_messages_dropped_total", Kind.COUNTER, "Queued messages that were dropped; the log has the reasons"
)
CONNECTED: Final = Metric(
    "dane_messenger_connected",
    Kind.GAUGE,
    "Whether the resident sender has a connection to the broker: 1 or 0; without queued messages it has none",
)

CHECK_SUCCEEDED: Final = Metric(
    "dane_messenger_identity_check_succeeded",
    Kind.GAUGE,
    "Whether the last check by the maintenance service found no problem: 1 or 0",
)
CHECK_TIME: Final = Metric(
    "dane_messenger_identity_check_timestamp_seconds",
    Kind.GAUGE,
    "When the maintenance service last checked the identity",
)
EPOCHS_PUBLISHED: Final = Metric(
    "dane_messenger_epoch_publication_succeeded",
    Kind.GAUGE,
    "Whether the last attempt to publish epoch records succeeded: 1 or 0",
)
