"""Alembic's folder: one revision per change of the tables."""
