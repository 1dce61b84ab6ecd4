"""Every Prometheus metric of the platform. Decides names, labels and buckets; counts nothing.

Labels have few values: a topic, a service, an outcome; never a session, a user or a run.
"""

from prometheus_client import Counter, Gauge, Histogram

_LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

bus_published = Counter("fased_bus_published", "Records the bus made durable.", ["topic"])
bus_consumed = Counter(
    "fased_bus_consumed",
    "Records by what became of them: consumed, dead_lettered or abandoned.",
    ["group", "topic", "outcome"],
)
bus_retries = Counter(
    "fased_bus_effect_retries", "Effects that failed and are tried again.", ["group", "topic"]
)
bus_effect_seconds = Histogram(
    "fased_bus_effect_seconds", "Time of one effect.", ["group", "topic"], buckets=_LATENCY_S
)
bus_delay_seconds = Histogram(
    "fased_bus_delay_seconds",
    "Age of a batch's first record when its effect begins.",
    ["group", "topic"],
    buckets=_LATENCY_S,
)
bus_partitions = Gauge(
    "fased_bus_owned_partitions", "Partitions a consumer of this process owns.", ["group"]
)
bus_lag = Gauge(
    "fased_bus_lag_records",
    "Records not committed yet of the partitions a consumer of this process owns.",
    ["group"],
)
bus_stalled_seconds = Gauge(
    "fased_bus_stalled_seconds",
    "How long a consumer has read nothing although records wait for it; 0 when all is well.",
    ["group"],
)
bus_members_replaced = Counter(
    "fased_bus_members_replaced", "Members of a group given up because they were stuck.", ["group"]
)
outbox_relayed = Counter(
    "fased_outbox_relayed", "Events the bus acknowledged to the relay.", ["schema"]
)
outbox_failures = Counter(
    "fased_outbox_relay_failures", "Passes of the relay that failed and are repeated.", ["schema"]
)
outbox_delay_seconds = Histogram(
    "fased_outbox_delay_seconds",
    "Age of a batch's oldest event when the bus acknowledged it.",
    ["schema"],
    buckets=_LATENCY_S,
)
