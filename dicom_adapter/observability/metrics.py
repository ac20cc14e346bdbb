"""What Prometheus reads: associations, instances, bytes, the queue, jobs, deliveries, the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
ENDINGS = (
    *("released", "aborted", "ended", "lost", "broken", "slow", "rejected"),
    *("no request", "silent", "unsecured", "displaced", "no room"),
)
"""How a connection with a peer may end: the values of a label."""

_JOB_SECONDS = (1, 3, 10, 30, 60, 120, 300, 600, 1800, 3600)


@dataclass(frozen=True, kw_only=True)
class Queue:
    """How much there is to do at this moment.

    Attributes
    ----------
    studies, jobs
        How many there are in each state.
    deliveries
        How many there are of each destination and state.
    oldest_delivery_s
        Age of the oldest result that a destination has not taken yet, seconds.
    free_bytes
        Free space of the disk.
    set_aside
        How much of each kind is set aside.
    workers
        How many threads work, wait after a failure, are stuck, and are dead.
    """

    studies: Mapping[str, int]
    jobs: Mapping[str, int]
    deliveries: Mapping[tuple[str, str], int]
    oldest_delivery_s: Mapping[str, float]
    free_bytes: int
    set_aside: Mapping[str, int] = field(default_factory=dict)
    workers: Mapping[str, int] = field(default_factory=dict)


class Metrics:
    """Counts since the start, and the queue as it is when it is asked for."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.associations = Counter(
            "clara_adapter_associations",
            "Associations that peers asked for",
            ["called", "outcome"],
            registry=registry,
        )
        self.open_associations = Gauge(
            "clara_adapter_open_associations", "Associations that are open", registry=registry
        )
        self.connections = Counter(
            "clara_adapter_connections",
            "Connections with peers that have ended, by how",
            ["ending"],
            registry=registry,
        )
        for ending in ENDINGS:
            self.connections.labels(ending)
        self.waiting_connections = Gauge(
            "clara_adapter_waiting_connections",
            "Connections that have not asked for an association yet",
            registry=registry,
        )
        self.instances = Counter(
            "clara_adapter_instances", "Instances received", ["called", "outcome"], registry=registry
        )
        self.received_bytes = Counter(
            "clara_adapter_received_bytes", "Bytes of the instances received", ["called"], registry=registry
        )
        self.job_seconds = Histogram(
            "clara_adapter_job_seconds",
            "Time that a run of a job took",
            ["workflow", "outcome"],
            buckets=_JOB_SECONDS,
            registry=registry,
        )
        self.deliveries = Counter(
            "clara_adapter_deliveries",
            "Answers of destinations to instances that were sent",
            ["destination", "outcome"],
            registry=registry,
        )
        self.destination_errors = Counter(
            "clara_adapter_destination_errors",
            "Times that a destination could not be reached or went away",
            ["destination"],
            registry=registry,
        )

        self.worker_failures = Counter(
            "clara_adapter_worker_failures",
            "Errors that ended what a worker was at",
            ["worker"],
            registry=registry,
        )

    def watch(self, queue: Callable[[], Queue]) -> None:
        """Add the queue, as it is when it is asked for.

        Parameters
        ----------
        queue
            Returns how much there is to do.
        """
        self.registry.register(_QueueCollector(queue))

    def text(self) -> bytes:
        """Return all of it in Prometheus' text form."""
        return bytes(generate_latest(self.registry))


class _QueueCollector(Collector):  # type: ignore[misc]
    def __init__(self, queue: Callable[[], Queue]) -> None:
        self._queue = queue

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        queue = self._queue()
        yield _by_state("clara_adapter_studies", "Studies by state", queue.studies)
        yield _by_state("clara_adapter_jobs", "Jobs by state", queue.jobs)
        yield _by_state("clara_adapter_workers", "Workers by state", queue.workers)
        aside = GaugeMetricFamily("clara_adapter_set_aside", "Items that are set aside", labels=["kind"])
        for kind, count in queue.set_aside.items():
            aside.add_metric([kind], count)
        yield aside
        waiting = GaugeMetricFamily(
            "clara_adapter_results", "Results by destination and state", labels=["destination", "state"]
        )
        for labels, count in queue.deliveries.items():
            waiting.add_metric(labels, count)
        yield waiting
        oldest = GaugeMetricFamily(
            "clara_adapter_oldest_result_seconds",
            "Age of the oldest result that a destination has not taken",
            labels=["destination"],
        )
        for destination, age in queue.oldest_delivery_s.items():
            oldest.add_metric([destination], age)
        yield oldest
        yield GaugeMetricFamily(
            "clara_adapter_disk_free_bytes", "Free disk space where images are kept", queue.free_bytes
        )


def _by_state(name: str, text: str, counts: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["state"])
    for state, count in counts.items():
        family.add_metric([state], count)
    return family
