"""The api: answers over HTTP from the database, and keeps the dead letters there."""
