"""Look at the machine: doctor."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from clara_wf.commands.options import AsJson, Models, Payloads, Values, command_context, print_line

_SIGNS = {"ok": "ok     ", "missing": "missing", "wrong": "WRONG  "}


def examine_machine(
    context: typer.Context,
    values: Values = None,
    payloads: Payloads = None,
    models: Models = None,
    as_json: AsJson = False,
) -> None:
    """Print what works here, what is missing, and how to get it; fails only if something is wrong."""
    from clara_wf.run.doctor import examine

    around = command_context(context, values=values, payloads=payloads, models=models)
    found = []
    for each in examine(around.places, around.environ):
        found.append(each)
        if not as_json:
            advice = f"; {each.advice}" if each.advice else ""
            print_line(f"{_SIGNS[each.verdict]} {each.what}: {each.found}{advice}")
    if as_json:
        print_line(json.dumps([asdict(each) for each in found], indent=2))
    if any(each.verdict == "wrong" for each in found):
        raise typer.Exit(1)
