"""What the watch counts."""

from prometheus_client import Counter, Gauge

READERS = Gauge("atlhyper_watch_readers", "Readers that follow the changes now")
REFUSED = Counter("atlhyper_watch_refused", "Readers turned away because there were too many")
SENT = Counter("atlhyper_watch_sent", "Messages sent to readers", ["event"])
BEHIND = Counter(
    "atlhyper_watch_behind", "Times that a reader was too slow for the ring and went to the database"
)
DROPPED = Counter("atlhyper_watch_dropped", "Readers dropped because they took nothing for too long")
CHANGES = Counter("atlhyper_watch_changes", "Changes read from the database for all readers")
LAG = Gauge("atlhyper_watch_lag_seconds", "How long ago everything that is in the database had been read")
