"""``clara-wf pull``: studies of an archive become the test data of jobs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from clara_wf.commands.archives import (
    Accession,
    Config,
    Dates,
    Modality,
    Patient,
    ShowIdentifiers,
    Study,
    archives_of,
)
from clara_wf.commands.completion import WorkflowName
from clara_wf.commands.options import AsJson, Values, command_context, print_line
from clara_wf.definitions.workflow import find_workflow, load_workflows
from clara_wf.run.archives import FetchOptions, study_query
from clara_wf.text.untrusted import printable_lines


def pull(
    context: typer.Context,
    workflow: WorkflowName,
    archive: Annotated[
        str, typer.Option("--from", metavar="NAME", help="The archive, as the configuration names it.")
    ],
    study: Study = "",
    accession: Accession = "",
    patient: Patient = "",
    dates: Dates = "",
    modality: Modality = "",
    every: Annotated[
        bool, typer.Option("--all", help="Fetch every study that matches, not only one.")
    ] = False,
    only_list: Annotated[bool, typer.Option("--list", help="Show what matches, and fetch nothing.")] = False,
    show_identifiers: ShowIdentifiers = False,
    config: Config = None,
    values: Values = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a study from an archive, as input of a job.

    It is asked by C-FIND and C-GET or C-MOVE, or by QIDO-RS and WADO-RS. The study appears whole or not at
    all. After an interruption the same command goes on where it was.
    """
    query = study_query(
        study_uid=study, accession=accession, patient_id=patient, dates=dates, modality=modality
    )
    places = command_context(context, values=values).places
    chosen = find_workflow(load_workflows(places.values), workflow)
    options = FetchOptions(show_identifiers=show_identifiers, every=every, only_list=only_list)
    fetched = archives_of(config, places).fetch(
        archive, query, chosen, places, options, lambda line: typer.echo(printable_lines(line), err=True)
    )
    if as_json:
        print_line(json.dumps([asdict(each) for each in fetched], indent=2))
        return
    for each in fetched:
        print_line(
            f"job {each.job}: study {each.study}, {each.instances} instances, {each.retrieved} of them now"
        )
        print_line(f"run it: clara-wf test {chosen.name} {each.job}")
