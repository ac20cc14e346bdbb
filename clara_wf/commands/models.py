"""Look at models and add one: models list, models check, models add."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from clara_wf.commands.completion import models as known_models
from clara_wf.commands.lazy import SETTINGS
from clara_wf.commands.options import AsJson, Models, command_context, print_line, print_table

if TYPE_CHECKING:
    from clara_wf.models.add import AddedModel
    from clara_wf.models.check import CheckedModel

app = typer.Typer(
    **SETTINGS, help="List the models of a repository, check one, add one.", no_args_is_help=True
)

TrustCode = Annotated[
    bool, typer.Option("--trust-code", help="Let the model run the programs that it brings along.")
]


@app.command("list")
def list_models(context: typer.Context, models: Models = None, as_json: AsJson = False) -> None:
    """List the models of a repository, and say which are incomplete."""
    from clara_wf.models.check import models_in
    from clara_wf.models.config_pbtxt import lack_of

    repository = command_context(context, models=models).places.models
    found = models_in(repository)
    lacks = {each.name: lack_of(repository / each.name) for each in found}
    if as_json:
        print_line(json.dumps([asdict(each) | {"lacks": lacks[each.name]} for each in found], indent=2))
        return
    if not found:
        print_line(f"{repository} holds no model; one is a folder with config.pbtxt and 1/model.onnx")
        return
    rows = [
        (
            each.name,
            ", ".join(map(str, each.versions)) or "none",
            ", ".join(map(str, each.kept)),
            f"{each.size_bytes / 1e6:.1f} MB",
            "incomplete" if lacks[each.name] else "complete",
        )
        for each in found
    ]
    print_table(("model", "versions", "kept", "size", "description"), rows)
    for each in found:
        if lacks[each.name]:
            print_line(f"{each.name} lacks: {lacks[each.name]}")


@app.command("check")
def check(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the model.", autocompletion=known_models)
    ],
    models: Models = None,
    record: Annotated[
        bool, typer.Option("--record", help="Keep the phantom's mask as the golden case.")
    ] = False,
    trust_code: TrustCode = False,
    as_json: AsJson = False,
) -> None:
    """Load a model on a real Triton and run a phantom through it.

    Its description is held against its tensors, and how a CT would go through it is printed. Nothing is said
    of how good it is; but where a golden case is recorded, the phantom's mask must be that one still.
    """
    import numpy as np

    from clara_wf.models import golden
    from clara_wf.models.check import check_model

    places = command_context(context, models=models).places
    if record:
        places.workspace.require_changeable(places.models)
    found = check_model(name, places.models, cache=places.cache, print_line=_progress, trust_code=trust_code)
    _warn_of_nameless(found)
    if record:
        golden.record(places.models / name, np.asarray(found.mask.array))
        found = replace(found, agreement={})
    elif found.agreement is not None:
        golden.require_agreement(found.agreement)
    _print(found, as_json=as_json)


@app.command("add")
def add(
    context: typer.Context,
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="An ONNX or TorchScript file; a folder of Triton, nnU-Net, TotalSegmentator or MONAI.",
        ),
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the model; default: that of PATH.")
    ] = None,
    models: Models = None,
    orientation: Annotated[
        str | None,
        typer.Option(
            "--orientation",
            metavar="SPL",
            help="Of nnU-Net: patient directions of slices, rows, columns in the images it was trained on.",
        ),
    ] = None,
    only: Annotated[
        str,
        typer.Option(
            "--only", metavar="NAMES", help="Of TotalSegmentator: the classes to keep, with commas."
        ),
    ] = "",
    fold: Annotated[
        list[str] | None,
        typer.Option("--fold", metavar="FOLD", help="Of nnU-Net: a fold to use; may be said again."),
    ] = None,
    backend: Annotated[
        Literal["onnxruntime", "pytorch"],
        typer.Option(
            "--backend", help="Of a TorchScript file: what of Triton runs it; pytorch is the image's."
        ),
    ] = "onnxruntime",
    trust_code: TrustCode = False,
    as_json: AsJson = False,
) -> None:
    """Add a model to the repository, whole or not at all.

    It is checked first, and its golden case recorded; the version that it replaces is kept. Trained models of
    nnU-Net, TotalSegmentator and MONAI, and TorchScript files, become ONNX with a config.pbtxt that says what
    their framework does; what cannot be done here is refused by name. An ONNX file
    gets a config.pbtxt to complete, or that of the model whose next version it is. A folder whose files would
    run as programs (Python, libraries, pickles), or are links, is refused unless you trust it: what would run
    is printed. What leads out of the folder is refused always.
    """
    from clara_wf.model_import.add import add_any_model
    from clara_wf.model_import.imported import ImportChoices

    places = command_context(context, models=models).places
    places.workspace.require_changeable(places.models)
    choices = ImportChoices(
        orientation=orientation,
        only=tuple(each.strip() for each in only.split(",") if each.strip()),
        folds=tuple(fold or ()),
        trust_code=trust_code,
        backend=backend,
    )
    added = add_any_model(
        path, places.models, name=name, cache=places.cache, print_line=_progress, choices=choices
    )
    _tell_added(added, as_json=as_json)


def _tell_added(added: AddedModel, *, as_json: bool) -> None:
    from clara_wf.models.config_pbtxt import CONFIG

    before = f", instead of version {added.replaced}, which is kept" if added.replaced else ""
    _progress(f"added {added.folder.name}, version {added.version}, to {added.folder.parent}{before}")
    if added.problem is not None:
        _progress(f"it lacks: {added.problem}")
        _progress(
            f"complete {added.folder / CONFIG}, then run: clara-wf models check {added.folder.name} --record"
        )
    if as_json:
        told = _told(added.checked) if added.checked else None
        print_line(
            json.dumps({"version": added.version, "replaced": added.replaced, "checked": told}, indent=2)
        )
    elif added.checked is not None:
        _print(added.checked, as_json=False)
    if added.checked is not None:
        _warn_of_nameless(added.checked)


def _warn_of_nameless(found: CheckedModel) -> None:
    from stages.volume.labels import nameless_text, where_to_say

    if nameless := found.description.nameless:
        _progress(f"warning: {nameless_text(nameless)}; {where_to_say(found.served.name)}")


def _progress(line: str) -> None:
    typer.echo(line, err=True)


def _print(found: CheckedModel, *, as_json: bool) -> None:
    told = _told(found)
    if as_json:
        print_line(json.dumps(told, indent=2))
        return
    for key, value in told.items():
        print_line(f"{key:20} {value}")


def _told(found: CheckedModel) -> dict[str, object]:
    from clara_wf.models.check import CT_SHAPE, CT_SPACING_MM
    from clara_wf.models.plan_text import notes_of, plan_of_description
    from stages.runtime.sizes import in_words

    model, tensors = found.description, found.tensors
    ct = " x ".join(map(str, CT_SHAPE)) + " voxels of " + " x ".join(map(str, CT_SPACING_MM)) + " mm"
    return {
        "model": f"{found.served.name}, version {found.served.version}",
        **notes_of(found.served.parameters),
        "input": f"{tensors.input_type} {tensors.input_layout}",
        "output": f"{tensors.output_type} {tensors.output_layout}, {model.activation}",
        "orientation": model.orientation,
        "grid": f"size {list(model.size)}" if model.size else f"spacing {model.spacing_mm}",
        "window": list(model.window_shape or ()),
        **plan_of_description(model),
        "labels": {label: model.name_of(label) for label in model.labels},
        "channels": list(model.channel_labels),
        "a CT of": ct,
        "becomes": " x ".join(map(str, found.input_shape)),
        "in windows": found.windows,
        "seconds": round(found.windows * found.seconds_a_window, 1),
        "answered by": _engine(found),
        "beside ONNX Runtime": _parity(found),
        "memory of the stage": in_words(sum(found.memory.values())),
        "phantom, ml": {label: round(ml, 1) for label, ml in found.found_ml.items()},
        "golden case": "none recorded" if found.agreement is None else _dices(found.agreement),
    }


def _engine(found: CheckedModel) -> str:
    if found.engine is None:
        return "the backend that config.pbtxt names"
    return "; ".join([found.engine.name, *found.engine.others])


def _parity(found: CheckedModel) -> str:
    if found.parity is None:
        return "it is that" if found.engine else "not compared"
    parity = found.parity
    labels = f"{100 * parity.labels_that_differ:.3g} % of the labels differ"
    if parity.largest_value == 0:
        return labels
    return f"scores up to {parity.largest_value:.3g} differ by {parity.largest_difference:.2g}, {labels}"


def _dices(agreement: Mapping[int, float]) -> str:
    if not agreement:
        return "recorded"
    if all(dice == 1 for dice in agreement.values()):
        return "the same mask"
    return ", ".join(f"label {label}: Dice {dice:.3f}" for label, dice in agreement.items())
