"""What the master counts."""

from prometheus_client import Counter, Gauge, Histogram

FRAMES = Counter("atlhyper_master_frames", "Frames looked at, by what became of them", ["verdict"])
ROWS = Counter("atlhyper_master_rows", "Objects: new or changed, sent again unchanged, removed", ["change"])
UNREADABLE = Counter("atlhyper_master_unreadable_objects", "Objects whose body could not be read")
DIGEST_MISMATCHES = Counter("atlhyper_master_digest_mismatches", "Digests that disagreed with the rows")
EVENTS = Counter("atlhyper_master_events", "Versions of Kubernetes Events stored")
RESYNC_REQUESTS = Counter("atlhyper_master_resync_requests", "Requests for a new epoch that were sent")
RESYNCS_WANTED = Gauge("atlhyper_master_resyncs_wanted", "Agents of which a new epoch is wanted")
SUPERSEDED = Counter("atlhyper_master_superseded", "Times an agent was told that a newer epoch has begun")
LEASES_HELD = Gauge("atlhyper_master_leases_held", "Shards, heartbeats and commands that this master has now")
LEASES_TAKEN = Counter("atlhyper_master_leases_taken", "Leases that this master took")
LEASES_LOST = Counter(
    "atlhyper_master_leases_lost", "Leases that passed to another, or were not renewed in time"
)
FENCED = Counter("atlhyper_master_fenced", "Transactions refused because another has taken the lease")
NUDGES = Counter("atlhyper_master_nudges", "Messages that rows of a shard have changed")
CONFIRMATIONS = Counter("atlhyper_master_confirmations", "Times an agent was told what is committed")
COMMIT_SECONDS = Histogram(
    "atlhyper_master_commit_seconds",
    "Time from a batch to the end of its last transaction",
    ["stream"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
