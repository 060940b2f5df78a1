"""Kubernetes Events, and up to where each spool of them is committed."""
