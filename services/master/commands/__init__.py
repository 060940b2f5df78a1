"""The master's side of commands: they are sent, asked about, and end, whatever fails in between."""
