"""The blocks of dicom-server-config.yaml, with the file's own keys."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from clara_wf.definitions.blocks import Seconds as AnySeconds
from clara_wf.definitions.blocks import Text, Texts
from dicom_adapter.config.patterns import checked_pattern

JOB_PROCESSOR = "Nvidia.Clara.Dicom.Processors.JobProcessor,Nvidia.Clara.DicomServer"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+", re.ASCII)
_CODE_STRING = re.compile(r"[A-Z0-9_][A-Z0-9_ ]{0,14}[A-Z0-9_]|[A-Z0-9_]")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", re.IGNORECASE)
_LARGEST_SIZE = 2**60
_YEAR_S, _CENTURY_H = 31_536_000, 876_000  # more than these no clock and no socket takes
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def _ae_title(value: str) -> str:
    if not 1 <= len(value.strip()) <= 16 or not value.isascii() or not value.isprintable() or "\\" in value:
        raise ValueError(
            f"{value!r} is no application entity title; 1 to 16 ASCII characters, no backslash (PS3.5 6.2)"
        )
    return value.strip()


def _address(value: str) -> str:
    """Return an IP address as callers' addresses are told, so that other spellings of it match."""
    try:
        found = ip_address(value.strip())
    except ValueError as error:
        raise ValueError(
            f"{value!r} is no IP address; write one such as 192.0.2.10, which a caller's is compared with "
            "(no name, no network)"
        ) from error
    return str(getattr(found, "ipv4_mapped", None) or found)


def _sop_classes(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not _UID.fullmatch(value) or len(value) > 64:
            raise ValueError(
                f"{value!r} is no UID of a SOP class; write one such as 1.2.840.10008.5.1.4.1.1.2"
            )
    return values


def _modalities(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not _CODE_STRING.fullmatch(value):
            raise ValueError(
                f"{value!r} is no modality; write one such as CT, in capitals (PS3.3 C.7.3.1.1.1)"
            )
    return values


def _some(values: tuple[AeTitle, ...]) -> tuple[AeTitle, ...]:
    if not values:
        raise ValueError("it is empty; write at least one")
    return values


def _processor(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if value.replace(" ", "") != JOB_PROCESSOR:
            raise ValueError(
                f"there is no processor {value!r}; write {JOB_PROCESSOR!r}, or leave the key out"
            )
    return values


def _workflow(value: str) -> str:
    if not _UUID.fullmatch(value):
        raise ValueError(f"{value!r} is no ID of a workflow; `clara-wf list DIR` shows the published ones")
    return value


def _permissions(value: object) -> int:
    found = re.fullmatch(r"0?o?([0-7]{3})", str(value).strip())
    mode = int(found[1], 8) if found and not isinstance(value, bool) else 0
    if mode & 0o600 != 0o600 or mode & 0o111:
        raise ValueError(
            f"expected the permissions of files such as '0640', found {value!r}; write an octal number in "
            "quotes: the owner reads and writes, and nobody executes"
        )
    return mode


def _path(value: object) -> object:
    if value == "":
        raise ValueError(
            "it is empty, which would be the folder that the adapter is started in; leave the key out"
        )
    return value


def _bytes(value: object) -> int:
    found = _SIZE.fullmatch(str(value).strip())
    if isinstance(value, bool) or found is None:
        raise ValueError(f"expected a size such as 2G, found {value!r}; write a number and K, M, G or T")
    size = float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " ")
    if size > _LARGEST_SIZE:
        raise ValueError(f"{str(value)[:40]!r} is more than any disk has; write a number and K, M, G or T")
    return int(size)


def _url(value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme not in ("http", "https") or not parts.hostname or not value.isascii()):
        raise ValueError(f"{value!r} is no root of a service; write http://HOST:PORT/PATH or https://")
    parts.port  # noqa: B018 - raises ValueError for what is none
    return value


AeName = Annotated[Text, AfterValidator(_ae_title)]
Processors = Annotated[Texts, AfterValidator(_processor)]
WorkflowId = Annotated[Text, AfterValidator(_workflow)]
Size = Annotated[int, BeforeValidator(_bytes)]
Permissions = Annotated[int, BeforeValidator(_permissions)]
Folder = Annotated[Path, BeforeValidator(_path)]
Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[AnySeconds, Field(le=_YEAR_S)]
Pattern = Annotated[str, AfterValidator(checked_pattern)]


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

    modalities: Annotated[Texts, AfterValidator(_modalities)] = ()
    sop_classes: Annotated[Texts, AfterValidator(_sop_classes)] = ()
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
    """

    ae_title: AeName
    processors: Processors = (JOB_PROCESSOR,)
    complete: Literal["quiet", "association"] = "quiet"
    quiet_seconds: Seconds = 10.0
    late: Literal["rerun", "supersede", "wait"] = "rerun"
    filter: SeriesFilter = SeriesFilter()


class Source(Block):
    """Somebody who may call us; from that address only, if there is one."""

    ae_title: AeName
    host_ip: Annotated[Text, AfterValidator(_address)] = ""


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
    """

    name: Text
    host_ip: Text = ""
    port: Port = 104
    ae_title: AeName = "ANY-SCP"
    tls: bool | DestinationTls = False
    commitment: bool = False
    dicomweb: Annotated[str, AfterValidator(_url)] = ""
    dicomweb_token: str = ""
    query: bool = True


class Scu(Block):
    """How we call others.

    Attributes
    ----------
    timeout_seconds
        Longest time for a connection, and for each answer from its first to its last byte.
    slowest_rate
        Bytes a second that a destination takes of an instance at least, beside one `timeout_seconds`.
    """

    ae_title: AeName = "CLARA"
    max_associations: Count = 2
    timeout_seconds: Seconds = 30.0
    slowest_rate: Annotated[Size, Field(ge=1)] = 32 * 1024
    give_up_hours: Annotated[float, Field(gt=0, le=_CENTURY_H)] = 72.0
    destinations: tuple[Destination, ...] = ()


class Dicom(Block):
    """Both sides of the network."""

    scp: Scp
    scu: Scu = Scu()


class WorkflowRule(Block):
    """What is run for a study that came under an AE title, and where its results go.

    Attributes
    ----------
    destination_name
        One name, several, or none: results stay in the payload.
    """

    name: Text
    clara_ae_title: AeName
    destination_name: Texts = ()
    workflow: WorkflowId


class Storage(Block):
    """Where things lie. On one file system, received instances are cloned into payloads where it can do so.

    Attributes
    ----------
    received
        Received instances and the adapter's own books; default: ``dicom-adapter`` beside the payloads.
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
    retention_hours: Annotated[float, Field(ge=0, le=_CENTURY_H)] = 24.0

    @property
    def root(self) -> Path:
        """Where received instances and the books lie."""
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
        Others wait in the queue.
    tries
        After so many failures of the infrastructure a job is a dead letter; bad data is one at once.
    stop_seconds
        What a job is left to end in when the adapter is asked to stop; then it is killed, and goes on at the
        next start. The adapter ends two seconds later at the latest.
    """

    engine: Literal["process", "docker", "kubernetes"] | None = None
    model_server: str = ""
    at_once: Count = 1
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
