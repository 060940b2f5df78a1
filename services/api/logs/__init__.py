"""Readers of logs: each is a session with the agent of its cluster."""
