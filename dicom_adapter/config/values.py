"""Single values of dicom-server-config.yaml: each a type that says what is wrong with what it is not."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from clara_wf.yaml.scalars import Seconds as AnySeconds
from clara_wf.yaml.scalars import Text, Texts
from dicom_adapter.config.patterns import checked_pattern
from stages.resident.orders import HIGHEST_PRIORITY
from stages.runtime.sizes import bytes_of

JOB_PROCESSOR = "Nvidia.Clara.Dicom.Processors.JobProcessor,Nvidia.Clara.DicomServer"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+", re.ASCII)
_CODE_STRING = re.compile(r"[A-Z0-9_][A-Z0-9_ ]{0,14}[A-Z0-9_]|[A-Z0-9_]")
_LARGEST_SIZE = 2**60
_YEAR_S, _CENTURY_H = 31_536_000, 876_000  # more than these no clock and no socket takes


def _ae_title(value: str) -> str:
    if not 1 <= len(value.strip()) <= 16 or not value.isascii() or not value.isprintable() or "\\" in value:
        raise ValueError(
            f"{value!r} is no application entity title; 1 to 16 ASCII characters, no backslash (PS3.5 6.2)"
        )
    return value.strip()


def _address(value: str) -> str:
    """Return an IP address as callers' addresses are written, so that other spellings of it match."""
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
    size = None if isinstance(value, bool) else bytes_of(str(value))
    if size is None:
        raise ValueError(f"expected a size such as 2G, found {value!r}; write a number and K, M, G or T")
    if size > _LARGEST_SIZE:
        raise ValueError(f"{str(value)[:40]!r} is more than any disk has; write a number and K, M, G or T")
    return size


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
Priority = Annotated[int, Field(ge=0, le=HIGHEST_PRIORITY)]
Seconds = Annotated[AnySeconds, Field(le=_YEAR_S)]
Pattern = Annotated[str, AfterValidator(checked_pattern)]
IpAddress = Annotated[Text, AfterValidator(_address)]
SopClasses = Annotated[Texts, AfterValidator(_sop_classes)]
Modalities = Annotated[Texts, AfterValidator(_modalities)]
Url = Annotated[str, AfterValidator(_url)]
Hours = Annotated[float, Field(gt=0, le=_CENTURY_H)]
HoursFromZero = Annotated[float, Field(ge=0, le=_CENTURY_H)]
