"""A control plane that nobody needs any longer when its test has ended."""

import signal
from contextlib import suppress

from services.cli.cluster.control_plane import ControlPlane, ControlPlaneError


class Throwaway(ControlPlane):
    """Ends by SIGKILL: told to stop, an API server that had an agent waits until its time is up, for 10 s."""

    def stop(self) -> None:
        """At once; what it held is of no use any more."""
        for component in reversed(self.components):
            with suppress(ControlPlaneError):  # it does not run
                self.send_signal(component, signal.SIGKILL)
        super().stop()
