"""Commands: what is asked for, whether it may be, how it stands, and waiting for its end."""
