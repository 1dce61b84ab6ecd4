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
channel_sends = Counter(
    "fased_channel_sends", "Calls that send a message, by how they ended.", ["channel", "end"]
)
channel_received = Counter(
    "fased_channel_received",
    "What platforms sent us, by what became of it: taken, skipped, refused or malformed.",
    ["channel", "outcome"],
)
gate_decisions = Counter(
    "fased_gate_decisions", "Inbound messages by what the gate decided of them.", ["reason"]
)
rpc_seconds = Histogram(
    "fased_rpc_seconds", "Time of a call with one answer.", ["method"], buckets=_LATENCY_S
)
rpc_failures = Counter(
    "fased_rpc_failures", "Calls that ended with an error, by its code.", ["method", "code"]
)
runs_ended = Counter("fased_runs_ended", "Runs by how they ended.", ["run_class", "outcome"])
queue_runs = Gauge(
    "fased_queue_runs",
    "Live runs of the whole queue; every scheduler tells the same.",
    ["state", "run_class"],
)
queue_ready_seconds = Gauge(
    "fased_queue_ready_seconds",
    "How long the first run that is ready has been waiting for an executor; 0 when none is.",
    ["run_class"],
)
deliveries_ended = Counter(
    "fased_deliveries_ended", "Deliveries by the state they ended in.", ["channel", "state"]
)
reconciles = Counter(
    "fased_reconciles",
    "Custom resources looked at, by how it ended: ready, unready, refused, removed or put_off.",
    ["kind", "outcome"],
)
reconcile_seconds = Histogram(
    "fased_reconcile_seconds", "Time of one look at a resource.", ["kind"], buckets=_LATENCY_S
)
reconciles_waiting = Gauge(
    "fased_reconciles_waiting", "Custom resources that wait to be looked at."
)
operator_active = Gauge(
    "fased_operator_active", "1 in the replica of the operator that holds the Lease, else 0."
)
statuses_written = Counter("fased_statuses_written", "Statuses written to resources.", ["kind"])
