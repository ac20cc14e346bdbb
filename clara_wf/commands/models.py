"""Look at models: models list, models check."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from clara_wf.commands.options import AsJson, Models, print_table, say, surroundings
from clara_wf.models import CT_SHAPE, CT_SPACING_MM, CheckedModel, check_model, models_in

app = typer.Typer(help="Look at the models of a repository, and try one.", no_args_is_help=True)


@app.command("list")
def list_models(context: typer.Context, models: Models = None, as_json: AsJson = False) -> None:
    """List the models of a repository."""
    repository = surroundings(context, models=models).places.models
    found = models_in(repository)
    if as_json:
        say(json.dumps([asdict(each) for each in found], indent=2))
        return
    if not found:
        say(f"{repository} holds no model; one is a folder with config.pbtxt and 1/model.onnx")
        return
    table = Table(box=box.SIMPLE, pad_edge=False)
    for heading in ("model", "versions", "size"):
        table.add_column(heading)
    for each in found:
        versions = ", ".join(map(str, each.versions)) or "none"
        table.add_row(each.name, versions, f"{each.size_bytes / 1e6:.1f} MB")
    print_table(table)


@app.command("check")
def check(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.")],
    models: Models = None,
    as_json: AsJson = False,
) -> None:
    """Load a model on a real Triton, hold its description against its tensors, run a phantom through.

    Prints how a CT would go through it. Nothing is said of how good it is.
    """
    around = surroundings(context, models=models)
    found = check_model(name, around.places, say=lambda line: typer.echo(line, err=True))
    if as_json:
        say(json.dumps(_told(found), indent=2))
        return
    for key, value in _told(found).items():
        say(f"{key:20} {value}")


def _told(found: CheckedModel) -> dict[str, object]:
    model, tensors = found.description, found.tensors
    ct = " x ".join(map(str, CT_SHAPE)) + " voxels of " + " x ".join(map(str, CT_SPACING_MM)) + " mm"
    return {
        "model": f"{found.served.name}, version {found.served.version}",
        "input": f"{tensors.input_type} {tensors.input_layout}",
        "output": f"{tensors.output_type} {tensors.output_layout}, {model.activation}",
        "orientation": model.orientation,
        "grid": f"size {list(model.size)}" if model.size else f"spacing {model.spacing_mm}",
        "window": list(model.window_shape or ()),
        "labels": list(model.channel_labels),
        "a CT of": ct,
        "becomes": " x ".join(map(str, found.input_shape)),
        "in windows": found.windows,
        "seconds": round(found.windows * found.seconds_a_window, 1),
        "phantom, ml": {label: round(ml, 1) for label, ml in found.found_ml.items()},
    }
