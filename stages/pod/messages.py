"""Messages with content on a stream of bytes, as the carrier of a Pod and its engine exchange them.

A message is four bytes (the length of its header), the header (a JSON object), and as many bytes of
content as ``header["size"]`` says. The first that either side writes is `HELLO`: it says which version of
the protocol it speaks, and who finds another one ends there.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from stages.errors import InputError, SettingsError, printable
from stages.runtime.job_files import open_to_read

_LENGTH = struct.Struct("!I")
_LONGEST_HEADER = 1 << 20
CHUNK = 1 << 18

PROTOCOL = 1
"""The version of all that engine and carrier exchange; another for what the older side would misread."""

HELLO = {"protocol": PROTOCOL}
"""The first message of either side, and the first line of the engine's commands."""

Write: TypeAlias = Callable[[bytes], object]
Read: TypeAlias = Callable[[int], bytes]
"""Return exactly so many bytes, or b"" at the end of the stream."""


def write_message(write: Write, header: Mapping[str, Any]) -> None:
    """Write a message without content.

    Parameters
    ----------
    write
        Called with the bytes to write.
    header
        What JSON can hold.
    """
    text = json.dumps(header).encode()
    write(_LENGTH.pack(len(text)) + text)


def require_protocol(header: Mapping[str, Any], *, of: str) -> None:
    """Return if the other side speaks the same version of the protocol.

    Parameters
    ----------
    header
        The first message or line that came from it.
    of
        The other side in words, such as "the engine".

    Raises
    ------
    SettingsError
        If it speaks another version, or does not say which.
    """
    found = header.get("protocol")
    if found != PROTOCOL:
        version = "an unknown version" if found is None else f"version {printable(found)}"
        raise SettingsError(
            f"{of} speaks {version} of the Pod's protocol, this program version {PROTOCOL}; run clara-wf and "
            "the image of the carrier (carrier.image of the chart) from the same release"
        )


def write_file(write: Write, header: Mapping[str, Any], file: Path, *, start: int = 0) -> int:
    """Write a message whose content is a file as it is now, and return where in the file it ends.

    Parameters
    ----------
    write
        Called with the bytes to write.
    header
        The message's header; `size` is added.
    file
        The file.
    start
        Leave out so many bytes at the file's beginning.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    JobFileError
        If something else stands there, such as a link.
    InputError
        If it becomes shorter meanwhile.
    """
    opened = open_to_read(file)
    if opened is None:
        raise FileNotFoundError(file)
    with opened as content:
        size = max(0, os.fstat(content.fileno()).st_size - start)
        content.seek(start)
        write_message(write, {**header, "size": size})
        left = size
        while left:
            chunk = content.read(min(CHUNK, left))
            if not chunk:
                raise InputError(f"{printable(file.name)} became shorter while it was read")
            write(chunk)
            left -= len(chunk)
    return start + size


def read_header(read: Read) -> dict[str, Any] | None:
    """Return the header of the next message; None at the end of the stream.

    Parameters
    ----------
    read
        Called with a number of bytes; it returns as many, or none at the end.

    Raises
    ------
    InputError
        If what comes is no message.
    """
    length = read(_LENGTH.size)
    if not length:
        return None
    size = _LENGTH.unpack(length)[0]
    if size > _LONGEST_HEADER:
        raise InputError(f"expected a message, found {length!r}")
    try:
        header = json.loads(read(size))
    except ValueError as error:
        raise InputError(f"expected a message, found something else: {error}") from error
    if not isinstance(header, dict):
        raise InputError(f"expected a message, found {type(header).__name__}")
    return header


def read_content(read: Read, header: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the content of a message, piece by piece.

    Parameters
    ----------
    read
        Called with a number of bytes; it returns as many, or none at the end.
    header
        The header that was read before it.

    Raises
    ------
    InputError
        If the stream ends before the content does.
    """
    left = int(header.get("size", 0))
    while left:
        chunk = read(min(CHUNK, left))
        if not chunk:
            raise InputError(f"the stream ended {left} bytes too early")
        left -= len(chunk)
        yield chunk


def place_in(folder: Path, name: str) -> Path:
    """Return the path that a name from the stream stands for.

    Parameters
    ----------
    folder
        The folder.
    name
        A path relative to it, with slashes.

    Raises
    ------
    InputError
        If it leads out of the folder.
    """
    parts = name.split("/")
    if not name or "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise InputError(f"{name!r} leads out of the folder it was meant for")
    return folder.joinpath(*parts)
