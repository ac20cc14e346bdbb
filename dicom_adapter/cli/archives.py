"""The archives of a dicom-server-config.yaml, for ``clara-wf pull`` and ``clara-wf test --from``."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clara_wf.definitions.workflow import Workflow
from clara_wf.payload import Payload, payload_for
from clara_wf.report.logs import without_uids
from clara_wf.run.archives import Archives, Fetched, FetchOptions, StudyQuery
from clara_wf.text.suggestion import did_you_mean
from clara_wf.workspace import Places
from dicom_adapter.config.blocks import Config
from dicom_adapter.config.dicom_blocks import Destination
from dicom_adapter.config.load import load_config
from dicom_adapter.delivery.answers import Answer, DestinationError
from dicom_adapter.delivery.connection import DestinationConnections
from dicom_adapter.delivery.senders import found_at, require_readable, sender_to
from dicom_adapter.observability.pseudonym import study_hash
from dicom_adapter.retrieval.answers import FoundStudy, found_studies, told_of
from dicom_adapter.retrieval.archive import Archive, archive_of
from dicom_adapter.retrieval.retrieve import retrieve_study
from dicom_adapter.storage.results import ResultFile, find_results
from stages.errors import InputError, OutputError, SettingsError
from stages.runtime.extras import require_extra

require_extra("adapter")

_TELL_S = 5.0


def open_archives(config: Path) -> ConfiguredArchives:
    """Return the archives that a configuration names as destinations.

    Parameters
    ----------
    config
        The file.

    Raises
    ------
    SettingsError
        If there is a mistake in it.
    """
    return ConfiguredArchives(config=load_config(config), file=config)


@dataclass(frozen=True, kw_only=True)
class ConfiguredArchives(Archives):
    """Destinations that are asked for studies as well."""

    config: Config
    file: Path

    def require(self, name: str) -> None:
        """Return if there is an archive of this name, and what it needs of files can be used."""
        self._destination(name)

    def fetch(
        self,
        name: str,
        query: StudyQuery,
        workflow: Workflow,
        places: Places,
        options: FetchOptions,
        print_line: Callable[[str], None],
    ) -> list[Fetched]:
        """Find studies in an archive, and make each the test data of a job of its own."""
        with self._archive(name) as archive:
            with told_of(archive.place):
                found = found_studies(archive.place, archive.find(query), query)
            show_studies(found, options, archive.place, print_line)
            if options.only_list:
                return []
            _require_meant(found, options)
            fetched = []
            for study in found:
                job = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{workflow.id}:{name}:{study.uid}"))
                begun = time.monotonic()
                payload = payload_for(places.payloads, job, workflow)
                retrieved = retrieve_study(
                    *(archive, study, places.test_data / job, workflow.input_folder),
                    self.config.storage,
                    _Told(study_hash(study.uid), print_line).update,
                    apart_from={each.sop_instance_uid for each in _results(payload, workflow)},
                )
                fetched.append(
                    Fetched(
                        job=job,
                        study=study_hash(study.uid),
                        instances=retrieved.instances,
                        retrieved=retrieved.retrieved,
                        seconds=round(time.monotonic() - begun, 3),
                    )
                )
            return fetched

    def deliver(self, name: str, payload: Payload, workflow: Workflow) -> str:
        """Send the results of a job, those that are not there yet, and return what became of that."""
        destination, scu = self._destination(name), self.config.dicom.scu
        results = _results(payload, workflow)
        refused: list[str] = []

        def on_answer(result: ResultFile, answer: Answer) -> None:
            if answer.verdict != "accepted":
                refused.append(without_uids(answer.message))

        with _connections() as connections:
            there = self._there(destination, connections, results)
            try:
                left = [each for each in results if each.sop_instance_uid not in there]
                if left:
                    sender_to(destination, scu, connections).send(left, on_answer)
            except DestinationError as error:
                raise OutputError(f"the results were not all sent: {without_uids(str(error))}") from error
        if refused:
            raise OutputError(f"{len(refused)} of {len(results)} results were not taken: {refused[0]}")
        return f"{name} has {len(results)} results of the job, {len(left)} of them now"

    def _there(
        self, destination: Destination, connections: DestinationConnections, results: list[ResultFile]
    ) -> set[str]:
        """Return which results an archive has; none where it does not say: it keeps what comes twice once."""
        if not destination.query:
            return set()
        try:
            return found_at(destination, self.config.dicom.scu, connections, results) or set()
        except DestinationError:
            return set()

    @contextmanager
    def _archive(self, name: str) -> Iterator[Archive]:
        destination = self._destination(name)
        with _connections() as connections:
            yield archive_of(destination, self.config.dicom, connections)

    def _destination(self, name: str) -> Destination:
        """Return what a name stands for, once what it needs of files can be used.

        Raises
        ------
        SettingsError
            If there is none, or a certificate, a key or a token of it cannot be used.
        """
        known = {each.name: each for each in self.config.dicom.scu.destinations}
        if name not in known:
            raise SettingsError(
                f"{self.file} has no destination {name!r}{did_you_mean(name, known)}; "
                f"there are: {', '.join(known) or 'none'}"
            )
        try:
            require_readable(known[name])
        except DestinationError as error:
            raise SettingsError(str(error)) from error
        return known[name]


def show_studies(
    found: list[FoundStudy], options: FetchOptions, place: str, print_line: Callable[[str], None]
) -> None:
    """Print what was found; names, IDs, dates and UIDs only if that is asked for.

    Parameters
    ----------
    found
        What the archive has.
    options
        Whether identities are shown.
    place
        The archive, for people.
    print_line
        Called with each line.
    """
    print_line(f"{place} has {len(found)} such {'study' if len(found) == 1 else 'studies'}")
    for each in found:
        told = {
            "study": study_hash(each.uid),
            "modalities": " ".join(each.modalities),
            "series": _number(each.series),
            "instances": _number(each.instances),
            **(_identifiers(each) if options.show_identifiers else {}),
        }
        print_line("  ".join(f"{name} {text}" for name, text in told.items() if text))


def _identifiers(study: FoundStudy) -> dict[str, str]:
    return {
        "patient": study.patient_id,
        "name": study.patient_name,
        "born": study.birth_date,
        "accession": study.accession,
        "date": study.date,
        "description": study.description,
        "StudyInstanceUID": study.uid,
    }


def _results(payload: Payload, workflow: Workflow) -> list[ResultFile]:
    """Return the results that a job has; once they were sent, the archive lists them with the study."""
    return [each for folder in workflow.result_folders for each in find_results(payload.folder(folder))]


def _require_meant(found: list[FoundStudy], options: FetchOptions) -> None:
    if not found:
        raise InputError(
            "no such study is there; is what was asked for right, and does the archive show it to us?"
        )
    if len(found) > 1 and not options.every:
        raise SettingsError(
            f"{len(found)} studies match; name one (--study UID, --accession NUMBER, which --list "
            "--show-identifiers shows), narrow it down (--date, --modality), or fetch all of them (--all)"
        )


def _number(count: int | None) -> str:
    return "" if count is None else str(count)


class _Told:
    """How far a study is, a line every few seconds."""

    def __init__(self, study: str, print_line: Callable[[str], None]) -> None:
        self._study, self._print_line = study, print_line
        self._last = float("-inf")

    def update(self, count: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last >= _TELL_S or count == total:
            self._last = now
            self._print_line(f"study {self._study}: {count} of {total} instances are here")


@contextmanager
def _connections() -> Iterator[DestinationConnections]:
    connections = DestinationConnections()
    try:
        yield connections
    finally:
        connections.end()
