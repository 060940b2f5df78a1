"""The master: it turns what agents send into rows, and asks them again for what is missing."""
