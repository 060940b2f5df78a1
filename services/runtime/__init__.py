"""What every service stands on: settings, lifecycle, logs, health, and the bus client in `bus/`."""
