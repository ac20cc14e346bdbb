"""The block ``dicom`` of dicom-server-config.yaml: how we are called, and how we call others."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from clara_wf.yaml.scalars import Text
from dicom_adapter.config.values import (
    JOB_PROCESSOR,
    AeName,
    Count,
    Hours,
    IpAddress,
    Modalities,
    Pattern,
    Port,
    Priority,
    Processors,
    Seconds,
    Size,
    SopClasses,
    Url,
)


def _some(values: tuple[AeTitle, ...]) -> tuple[AeTitle, ...]:
    if not values:
        raise ValueError("it is empty; write at least one")
    return values


class Block(BaseModel):
    """A block with nothing in it but these keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=lambda name: name.replace("_", "-")
    )


class SeriesFilter(Block):
    """Which instances of a study become a job's input; the others are kept, but start nothing.

    Attributes
    ----------
    modalities
        Values of Modality (0008,0060); none: all.
    sop_classes
        SOP class UIDs; none: all.
    descriptions
        A regular expression that Series Description (0008,103E), its first 64 characters, must hold; none:
        all.
    """

    modalities: Modalities = ()
    sop_classes: SopClasses = ()
    descriptions: Pattern = ""


class AeTitle(Block):
    """A name by which others call us, and when what came under it is a complete study.

    Attributes
    ----------
    processors
        Accepted as existing files have it; there is one, and it is the default.
    complete
        ``quiet``: nothing more came for `quiet_seconds`; ``association``: the sender has hung up.
    late
        What happens to instances of a study that was complete: ``rerun``: once they are complete the
        workflow runs again on all; ``supersede``: the same, and what was not delivered of the earlier
        result is not delivered any more; ``wait``: they are held until somebody says so.
    priority
        Of its jobs, see `dicom_adapter.config.blocks.WorkflowRule`.
    """

    ae_title: AeName
    processors: Processors = (JOB_PROCESSOR,)
    complete: Literal["quiet", "association"] = "quiet"
    quiet_seconds: Seconds = 10.0
    late: Literal["rerun", "supersede", "wait"] = "rerun"
    filter: SeriesFilter = SeriesFilter()
    priority: Priority = 0


class Source(Block):
    """Somebody who may call us; from that address only, if there is one."""

    ae_title: AeName
    host_ip: IpAddress = ""


class ScpTls(Block):
    """TLS for whoever calls us; with `client_certificates` only who has one of theirs may."""

    enabled: bool = False
    certificate: str = ""
    key: str = ""
    client_certificates: str = ""


class Scp(Block):
    """How we are called.

    Attributes
    ----------
    max_associations_per_address
        At once, from one IP address; default: half of `max_associations`.
    max_waiting
        Connections that have not asked for an association yet.
    request_seconds
        Longest time that such a one may take, TLS handshake and request together.
    idle_seconds
        Longest silence in an association, and longest time for one PDU or for reading an answer.
    least_rate
        Bytes a second that a message must come at, over the time beyond `idle_seconds`.
    blank_calling_as, blank_called_as
        The AE title that is meant by who leaves it blank; none: such calls are rejected.
    """

    port: Port = 104
    host: Text = "0.0.0.0"  # noqa: S104 - a modality is on another machine
    ae_titles: Annotated[tuple[AeTitle, ...], AfterValidator(_some)]
    sources: tuple[Source, ...] = ()
    reject_unknown_sources: bool = True
    max_associations: Count = 100
    max_associations_per_address: Count | None = None
    max_waiting: Count = 256
    max_pdu: Annotated[int, Field(ge=4096, le=1048576)] = 262144
    request_seconds: Seconds = 10.0
    idle_seconds: Seconds = 60.0
    least_rate: Size = 4096
    blank_calling_as: AeName | None = None
    blank_called_as: AeName | None = None
    tls: ScpTls = ScpTls()

    @property
    def from_one_address(self) -> int:
        """How many associations one address may have."""
        return self.max_associations_per_address or (self.max_associations + 1) // 2


class DestinationTls(Block):
    """TLS for a call of ours.

    Attributes
    ----------
    authorities
        Certificates that the destination's must come from; none: those of this machine.
    """

    enabled: bool = True
    certificate: str = ""
    key: str = ""
    authorities: str = ""


class Destination(Block):
    """Where results go: a DICOM application, or a DICOMweb service by its URL.

    Attributes
    ----------
    commitment
        Ask for storage commitment once it has taken everything.
    dicomweb
        The service's root; results go to ``<root>/studies`` by STOW-RS then.
    dicomweb_token
        File with a bearer token.
    query
        Ask by C-FIND or QIDO-RS, where it answers that, whether what may have arrived is there before it is
        sent again.
    retrieve
        How studies are fetched from it: ``get`` by C-GET, ``move`` by C-MOVE, ``auto`` by C-GET where it
        answers that, else by C-MOVE. By WADO-RS where it has a URL.
    """

    name: Text
    host_ip: Text = ""
    port: Port = 104
    ae_title: AeName = "ANY-SCP"
    tls: bool | DestinationTls = False
    commitment: bool = False
    dicomweb: Url = ""
    dicomweb_token: str = ""
    query: bool = True
    retrieve: Literal["auto", "get", "move"] = "auto"


class Scu(Block):
    """How we call others.

    Attributes
    ----------
    timeout_seconds
        Longest time for a connection, and for each answer from its first to its last byte.
    slowest_rate
        Bytes a second that a destination takes of an instance at least, and sends of one that is fetched from
        it, beside one `timeout_seconds`.
    move_port
        Where we listen under `ae_title` for what C-MOVE sends us; default: the port of `scp`.
    """

    ae_title: AeName = "CLARA"
    max_associations: Count = 2
    timeout_seconds: Seconds = 30.0
    slowest_rate: Annotated[Size, Field(ge=1)] = 32 * 1024
    give_up_hours: Hours = 72.0
    move_port: Port | None = None
    destinations: tuple[Destination, ...] = ()


class Dicom(Block):
    """Both sides of the network."""

    scp: Scp
    scu: Scu = Scu()
