"""What is counted of commands."""

from prometheus_client import Counter, Gauge

RECEIVED = Counter("atlhyper_agent_commands_received", "Commands taken into custody")
ENDED = Counter("atlhyper_agent_commands_ended", "Commands that have ended", ["state"])
REDELIVERED = Counter("atlhyper_agent_commands_redelivered", "Commands that came again, and were answered")
DEFERRED = Counter("atlhyper_agent_commands_deferred", "Commands that were left to the broker for now")
REPEATED = Counter("atlhyper_agent_results_repeated", "Results sent again because nobody confirmed them")
UNCONFIRMED = Gauge("atlhyper_agent_results_unconfirmed", "Results that the master has not confirmed yet")
