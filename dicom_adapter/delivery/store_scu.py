"""C-STORE to a destination, with the status of every instance.

A file goes as it lies where the destination takes that, else without loss in another transfer syntax.

References
----------
DICOM PS3.4 Annex B (storage service class), PS3.5 10.1 (the default transfer syntax is always offered).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydicom.uid import UID
from pynetdicom.dsutils import split_dataset

from dicom_adapter.delivery.answers import Answer, DestinationError, OnAnswer, Sender
from dicom_adapter.delivery.association import MOST_CONTEXTS, Peer, RequestedAssociation, associated
from dicom_adapter.delivery.transcode import TranscodeError, alternatives, transcode
from dicom_adapter.dimse import commands
from dicom_adapter.dimse.pdus import ProtocolError
from dicom_adapter.storage.results import ResultFile
from dicom_files.damage import parse_errors
from stages.errors import OutputError

_PIECE = 1 << 20
_MEDIUM = 0
_STORED = (0x0000, 0x0001, 0x0107, 0x0116)


@dataclass(frozen=True, kw_only=True)
class StoreScu(Sender):
    """Sends files by C-STORE."""

    peer: Peer

    def send(self, results: Sequence[ResultFile], on_answer: OnAnswer) -> None:
        """Send files over one association for every 128 kinds, and tell of each what was said.

        Raises
        ------
        DestinationError
            If the association is refused, aborted, too slow or not as the standard has it.
        """
        possible = _possible_syntaxes(results)
        for chosen in _grouped(results, possible):
            contexts = _contexts(chosen, possible)
            with associated(self.peer, contexts) as association:
                for each in chosen:
                    on_answer(each, self._store(association, each, possible[_kind(each)]))

    def _store(
        self, association: RequestedAssociation, result: ResultFile, syntaxes: Sequence[str]
    ) -> Answer:
        """Send a file in the first transfer syntax that the peer takes and that it can be given in."""
        why = ""
        for syntax in syntaxes:
            if not association.takes(result.sop_class_uid, syntax):
                continue
            try:
                file, size = _opened(result, syntax)
            except TranscodeError as error:
                why = f" ({error})"
            except OutputError as error:
                return Answer(verdict="busy", status="file", message=str(error))
            else:
                with file:
                    return self._send(association, result, syntax, _pieces(file), size)
        return Answer(
            verdict="refused",
            status="context",
            message=_not_taken(self.peer.name, association, result, syntaxes) + why,
        )

    def _send(
        self,
        association: RequestedAssociation,
        result: ResultFile,
        syntax: str,
        data: Iterator[bytes],
        size: int,
    ) -> Answer:
        values: dict[int, int | str] = {
            commands.SOP_CLASS: result.sop_class_uid,
            commands.SOP_INSTANCE: result.sop_instance_uid,
            commands.PRIORITY: _MEDIUM,
        }
        try:
            asked = association.call(result.sop_class_uid, syntax, commands.C_STORE, values, data, size=size)
            response = association.response(asked, commands.C_STORE)
            if commands.text(response.fields, commands.SOP_INSTANCE) not in (
                "",
                result.sop_instance_uid,
            ):
                raise ProtocolError("it answered for another instance than ours")
            return answer_of(commands.number(response.fields, commands.STATUS), self.peer.name)
        except OutputError as error:
            raise DestinationError(str(error)) from error
        except (OSError, EOFError, ProtocolError) as error:
            raise DestinationError(
                f"{self.peer.place} went away before it had answered: {error}",
                in_flight=result.sop_instance_uid,
            ) from error


def answer_of(status: int, name: str) -> Answer:
    """Return what a status of C-STORE means (PS3.4 table B.2-1): a warning says that it is stored.

    Parameters
    ----------
    status, name
        The status of the response and what the destination is called.
    """
    status_text = f"0x{status:04X}"
    if status in _STORED or 0xB000 <= status <= 0xBFFF:
        return Answer(verdict="accepted", status=status_text)
    if 0xA700 <= status <= 0xA7FF or status == 0x0110:
        return Answer(
            verdict="busy", status=status_text, message=f"{name} is out of resources ({status_text})"
        )
    meaning = "".join(f", {text}" for begin, end, text in _MEANINGS if begin <= status <= end)
    return Answer(
        verdict="refused", status=status_text, message=f"{name} refused it ({status_text}{meaning})"
    )


_MEANINGS = (
    (0x0111, 0x0111, "it has another instance with this UID"),
    (0x0117, 0x0117, "it does not take the UID for one"),
    (0x0122, 0x0122, "it does not support the SOP class"),
    (0x0124, 0x0124, "we may not store there"),
    (0xA900, 0xA9FF, "the data set is not what it expects of the SOP class"),
    (0xC000, 0xCFFF, "it cannot understand the data set"),
)


def _kind(result: ResultFile) -> tuple[str, str]:
    return result.sop_class_uid, result.transfer_syntax_uid


def _possible_syntaxes(results: Sequence[ResultFile]) -> dict[tuple[str, str], list[str]]:
    """Return in which transfer syntaxes each kind of files can be given, by the first of each kind."""
    first: dict[tuple[str, str], ResultFile] = {}
    for each in results:
        first.setdefault(_kind(each), each)
    return {kind: alternatives(each.path, kind[1]) for kind, each in first.items()}


def _grouped(
    results: Sequence[ResultFile], possible: dict[tuple[str, str], list[str]]
) -> Iterator[list[ResultFile]]:
    """Return results in groups, each of which one association has contexts enough for."""
    groups: list[list[tuple[str, str]]] = [[]]
    for kind in possible:
        if len({pair for each in [*groups[-1], kind] for pair in _pairs(each, possible)}) > MOST_CONTEXTS:
            groups.append([])
        groups[-1].append(kind)
    for group in groups:
        yield [each for each in results if _kind(each) in group]


def _contexts(
    results: Sequence[ResultFile], possible: dict[tuple[str, str], list[str]]
) -> list[tuple[str, str]]:
    """Return a presentation context for each way to give something, so that the peer may take any of them."""
    return list(dict.fromkeys(pair for each in results for pair in _pairs(_kind(each), possible)))


def _pairs(kind: tuple[str, str], possible: dict[tuple[str, str], list[str]]) -> list[tuple[str, str]]:
    return [(kind[0], syntax) for syntax in possible[kind]]


def _not_taken(
    name: str, association: RequestedAssociation, result: ResultFile, syntaxes: Sequence[str]
) -> str:
    what = UID(result.sop_class_uid).name
    if not association.takes_any(result.sop_class_uid):
        return f"{name} does not take {what} in any syntax that we can give it: {_named(syntaxes)}"
    return f"{name} does not take this {what} in any syntax that it can be given in: {_named(syntaxes)}"


def _named(syntaxes: Sequence[str]) -> str:
    return ", ".join(UID(each).name for each in syntaxes)


def _opened(result: ResultFile, syntax: str) -> tuple[IO[bytes], int]:
    """Return a file's data set, as it lies or transcoded, and its size.

    Raises
    ------
    OutputError
        If it cannot be read, or there is no place for the other form of it.
    TranscodeError
        If it cannot be given in this transfer syntax.
    """
    try:
        if syntax != result.transfer_syntax_uid:
            made = _place_beside(result.path)
            return made, transcode(result.path, syntax, made)
        begin = int(split_dataset(result.path)[1])
        file = result.path.open("rb")
        file.seek(begin)
        return file, result.path.stat().st_size - begin
    except parse_errors() as error:
        raise OutputError(f"{result.path.name} cannot be sent: {error}") from error


def _place_beside(path: Path) -> IO[bytes]:
    """Return a file without a name, where results lie or, if nothing may be written there, elsewhere."""
    try:
        return tempfile.TemporaryFile(dir=path.parent)
    except PermissionError:
        return tempfile.TemporaryFile()


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    try:
        while piece := file.read(_PIECE):
            yield piece
    except OSError as error:
        raise OutputError(f"a result cannot be read: {error}") from error
