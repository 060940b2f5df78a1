"""Commands: taken into custody, executed at most once, reported until the master has the result."""
