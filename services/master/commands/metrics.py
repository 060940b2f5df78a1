"""What is counted of commands."""

from prometheus_client import Counter, Gauge, Histogram

OPEN = Gauge("atlhyper_master_commands_open", "Commands that have not ended, by state", ["state"])
OUTBOX_DUE = Gauge("atlhyper_master_outbox_due", "Commands that are due to be sent or asked about")
OUTBOX_OLDEST = Gauge(
    "atlhyper_master_outbox_oldest_seconds", "For how long the command that waits longest has been due"
)
SENT = Counter("atlhyper_master_commands_sent", "Commands given to the broker for the first time")
ASKED = Counter("atlhyper_master_commands_asked", "Commands sent again to ask what has become of them")
NOT_STORED = Counter(
    "atlhyper_master_commands_not_stored", "Attempts to send that the broker did not confirm", ["outcome"]
)
SEND_SECONDS = Histogram(
    "atlhyper_master_command_send_seconds",
    "Time from the acceptance of a command until the broker has it",
    buckets=(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0),
)
ENDED = Counter("atlhyper_master_commands_ended", "Commands that ended, by state", ["state"])
REPORTS = Counter("atlhyper_master_command_reports", "Things that agents said of commands", ["kind"])
STRANGE = Counter("atlhyper_master_results_strange", "Ends of commands that the database does not know")
CONTRADICTED = Counter(
    "atlhyper_master_results_contradicted", "Ends told after a master had ended the command otherwise"
)
CONFIRMED = Counter("atlhyper_master_results_confirmed", "Results that their agents were told are committed")
CANCELS = Counter("atlhyper_master_cancels", "Times an agent was asked to end a command")
CONSUMERS = Gauge("atlhyper_master_command_consumers", "Agents whose consumer is there")
CONSUMERS_MADE = Counter("atlhyper_master_command_consumers_made", "Consumers made for agents")
