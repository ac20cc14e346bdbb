"""What the adapter's parts share: the database, the configuration of now, and where events go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dicom_adapter.config.blocks import Config
from dicom_adapter.database.store import Store
from dicom_adapter.observability.audit import AuditTrail
from dicom_adapter.observability.metrics import Metrics
from dicom_adapter.supervision.supervisor import Supervisor

PATIENCE = 6.0
"""How many times longer than others those may be silent who move files or wait for others."""


@dataclass(frozen=True, kw_only=True)
class AdapterContext:
    """What jobs, deliveries and the status page need of the adapter.

    Attributes
    ----------
    store
        The database.
    config
        Returns the configuration as it is now.
    trail
        The audit trail.
    metrics
        What is counted.
    clock
        Seconds of service (`dicom_adapter.database.connection`).
    environ
        The environment that jobs run in.
    supervisor
        Watches the threads.
    """

    store: Store
    config: Callable[[], Config]
    trail: AuditTrail
    metrics: Metrics
    clock: Callable[[], float]
    environ: Mapping[str, str]
    supervisor: Supervisor = field(default_factory=Supervisor)
