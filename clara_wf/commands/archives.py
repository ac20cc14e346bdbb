"""Options of the commands that ask archives, and what they fetch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from clara_wf.run.archives import Archives
    from clara_wf.workspace import Places

Study = Annotated[str, typer.Option("--study", metavar="UID", help="StudyInstanceUID of the study.")]
Accession = Annotated[str, typer.Option("--accession", metavar="NUMBER", help="Its accession number.")]
Patient = Annotated[str, typer.Option("--patient", metavar="ID", help="Patient ID of its patient.")]
Dates = Annotated[
    str, typer.Option("--date", metavar="RANGE", help="When it was: 2026-01-31, or 2026-01-01.., or A..B.")
]
Modality = Annotated[str, typer.Option("--modality", metavar="CT", help="Which modality it has.")]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="CLARA_ADAPTER_CONFIG",
        help="The dicom-server-config.yaml that names archives as destinations. Without it: the workspace's.",
    ),
]
ShowIdentifiers = Annotated[
    bool, typer.Option("--show-identifiers", help="Show names, IDs, dates and UIDs of what is found.")
]


def archives_of(config: Path | None, places: Places) -> Archives:
    """Return the archives of the configuration that is named, or of the workspace's.

    Raises
    ------
    SettingsError
        If there is none, or nothing here speaks with archives.
    """
    from clara_wf.commands.extensions import open_archives
    from clara_wf.run.archives import archives_file

    return open_archives(archives_file(config, places))
