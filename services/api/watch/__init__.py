"""Following the changes: one hub reads each from the database, and any number of readers hear of it."""
