"""What the bus counts."""

from prometheus_client import Counter, Gauge

CONNECTED = Gauge("atlhyper_bus_connected", "1 while there is a connection to the broker", ["user"])
RECONNECTS = Counter("atlhyper_bus_reconnects", "Connections made again after one was lost", ["user"])
REFUSED = Counter("atlhyper_bus_refused", "Publishes and subscriptions that the broker refused", ["user"])
DROPPED = Counter(
    "atlhyper_bus_dropped", "Unstored messages thrown away because their handler was too slow", ["user"]
)
REJECTED = Counter("atlhyper_bus_rejected", "Unstored messages that could not be read", ["user"])

HANDLED = Counter("atlhyper_consumer_handled", "Messages handled and settled", ["stream"])
DEAD_LETTERS = Counter("atlhyper_consumer_dead_letters", "Messages put on the dead letters", ["stream"])
RETRIES = Counter("atlhyper_consumer_retries", "Calls of a handler that failed and were repeated", ["stream"])
MISSED = Counter(
    "atlhyper_consumer_missed",
    "Messages the stream had dropped before they were read (age or size)",
    ["stream"],
)
LAG = Gauge("atlhyper_consumer_lag", "Messages still to be read", ["stream", "position"])
