"""The blocks of dicom-server-config.yaml, with the file's own keys."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StrictBool

from clara_wf.yaml.scalars import Text, Texts
from dicom_adapter.config.dicom_blocks import Block, Dicom
from dicom_adapter.config.values import (
    AeName,
    Count,
    Folder,
    HoursFromZero,
    Permissions,
    Port,
    Priority,
    Seconds,
    Size,
    WorkflowId,
)

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class WorkflowRule(Block):
    """What is run for a study that came under an AE title, and where its results go.

    Attributes
    ----------
    destination_name
        One name, several, or none: results stay in the payload.
    priority
        0 to 9, or that of the AE title if it is higher: its jobs overtake those of lower ones that came up to
        so many times ten minutes before.
    """

    name: Text
    clara_ae_title: AeName
    destination_name: Texts = ()
    workflow: WorkflowId
    priority: Priority = 0


class Storage(Block):
    """Where things lie. On one file system, received instances are cloned into payloads where it can do so.

    Attributes
    ----------
    received
        Received instances and the adapter's own database; default: ``dicom-adapter`` beside the payloads.
    minimum_free
        Below this an instance is answered with Out of Resources.
    largest_instance
        Bytes; a larger data set is answered so as well.
    permissions
        Of received files and of a job's input, whatever the umask; who may read them may enter the folders.
    job_input
        ``copy``: a job has copies of what was received, clones that share the disk where the file system
        makes such; ``link``: hard links, by which a stage that changes its input changes what was received.
    retention_hours
        What was delivered is cleaned up after so long; what was not is never.
    record_days
        What the database says of a study is forgotten so long after its files were removed.
    """

    payloads: Folder = Path("/clara-io/clara-core/payloads")
    workflows: Folder = Path("/clara-io/clara-core/workflows")
    received: Folder | None = None
    models: Folder | None = None
    minimum_free: Size = 2 * 2**30
    largest_instance: Annotated[Size, Field(ge=2**20, le=2**32)] = 2**32
    permissions: Permissions = 0o640
    job_input: Literal["copy", "link"] = "copy"
    record_days: Annotated[float, Field(ge=0)] = 90.0
    retention_hours: HoursFromZero = 24.0

    @property
    def root(self) -> Path:
        """Where received instances and the database lie."""
        return self.received or self.payloads.parent / "dicom-adapter"


class Jobs(Block):
    """How workflows run.

    Attributes
    ----------
    engine
        None to choose as `clara-wf test` does.
    model_server
        ``HOST:PORT`` of a Triton, ``none``, or nothing to start one.
    at_once
        Others wait in the queue; with stages that stay, so many studies follow each other through them.
    resident
        Whether the stages are kept ready, for jobs that run as processes.
    stage_count
        How many jobs a stage that is kept ready works on at the same time.
    tries
        After so many failures of the infrastructure a job is a dead letter; bad data is one at once.
    stop_seconds
        What a job is left to end in when the adapter is asked to stop; then it is killed, and goes on at the
        next start. The adapter ends two seconds later at the latest.
    """

    engine: Literal["process", "docker", "kubernetes"] | None = None
    model_server: str = ""
    at_once: Count = 1
    resident: StrictBool = True
    stage_count: Count = 1
    tries: Count = 3
    retry_seconds: Seconds = 30.0
    timeout_seconds: Seconds | None = None
    stop_seconds: Seconds = 8.0


class Http(Block):
    """Health, metrics and the status page; off the loopback only with a token.

    Attributes
    ----------
    token_file
        File with the token that callers show.
    stuck_seconds
        A worker without a sign of life for so long fails ``/healthz``; one that moves files or waits for
        others, such as a job, has six times as long.
    """

    host: Text = "127.0.0.1"
    port: Port = 8080
    token_file: str = ""
    stuck_seconds: Seconds = 300.0

    @property
    def on_loopback(self) -> bool:
        """Whether nobody but this machine reaches it."""
        try:
            return self.host in _LOOPBACK or ip_address(self.host).is_loopback
        except ValueError:
            return False


class Config(Block):
    """A whole dicom-server-config.yaml."""

    dicom: Dicom
    workflows: tuple[WorkflowRule, ...] = ()
    storage: Storage = Storage()
    jobs: Jobs = Jobs()
    http: Http = Http()

    def priorities(self) -> dict[str, int]:
        """Return the priority of each rule that has one, by the rule's name."""
        of_title = {each.ae_title: each.priority for each in self.dicom.scp.ae_titles}
        found = {
            rule.name: max(rule.priority, of_title.get(rule.clara_ae_title, 0)) for rule in self.workflows
        }
        return {name: priority for name, priority in found.items() if priority}
