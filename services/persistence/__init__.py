"""The database: tables, migrations, the write side of the master, the read side of the API."""

LONGEST_LEASE = 60.0
"""Seconds that a lease lasts at most; here, as settings limit it and `--help` is to load no database."""
