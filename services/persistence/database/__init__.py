"""The connection, the dialects, the schema and its migrations: all that knows nothing of a fleet."""
