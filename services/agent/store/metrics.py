"""What the store counts."""

from prometheus_client import Counter, Gauge

DAMAGED = Counter("atlhyper_agent_state_damaged", "State files that were damaged and set aside")
UNCONFIRMED = Gauge("atlhyper_agent_events_unconfirmed", "Events that the master has not confirmed yet")
BYTES = Gauge("atlhyper_agent_spool_bytes", "Space that the unconfirmed Events take of AGENT_SPOOL_BYTES")
DROPPED = Counter(
    "atlhyper_agent_events_dropped", "Events given up before the master confirmed them", ["reason"]
)
COMMANDS_OPEN = Gauge("atlhyper_agent_commands_open", "Commands in the journal that have not ended")
JOURNAL_DAMAGED = Counter(
    "atlhyper_agent_journal_damaged", "Entries of the journal of commands that were damaged"
)
RESULTS_GIVEN_UP = Counter(
    "atlhyper_agent_results_given_up", "Results of commands that no master ever confirmed"
)
