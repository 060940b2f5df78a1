"""What the duties of one master have in common."""

from dataclasses import dataclass

from services.master.confirmations import Confirmations
from services.master.nudges import Nudges
from services.master.resync import Resyncs, Superseding
from services.master.settings import MasterSettings
from services.master.work import DatabaseWork
from services.persistence.database.engine import Database
from services.runtime.bus.client import Bus


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Given to every reader. Each duty has a `db` of its own, under the fence of its lease."""

    settings: MasterSettings
    bus: Bus
    db: Database
    work: DatabaseWork
    resyncs: Resyncs
    superseding: Superseding
    nudges: Nudges
    confirmations: Confirmations
