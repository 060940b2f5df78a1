"""The database: tables, migrations, the write side of the master, the read side of the API."""
