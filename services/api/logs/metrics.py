"""What the readers of logs are counted by."""

from prometheus_client import Counter, Gauge

READERS = Gauge("atlhyper_log_readers", "Readers of logs that are connected now")
REFUSED = Counter("atlhyper_log_readers_refused", "Readers of logs turned away because there were too many")
DROPPED = Counter("atlhyper_log_readers_dropped", "Readers of logs that took nothing for too long")
BYTES = Counter("atlhyper_log_bytes", "Bytes of log lines sent to readers")
REPEATS = Counter("atlhyper_log_repeats", "Chunks of log lines that came again and were dropped")
RESUMED = Counter(
    "atlhyper_log_resumed", "Sessions begun anew where they stood, since an agent was not heard"
)
BROKEN = Counter("atlhyper_log_broken", "Answers broken off since the rest of a log did not come")
