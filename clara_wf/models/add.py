"""Add a model to a repository: whole or not at all, tried first, and what it replaces is kept.

A new folder is made beside the repository, tried on a real Triton, and then takes its name in one step.
Where a model of that name is, the new one becomes its next version, and the old folder lies in
``.previous/<version>`` of the new one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from clara_wf.files.edit_lock import ADD_WAIT_S, sole_editor
from clara_wf.files.exchange import made_beside, put
from clara_wf.model_server.server import MODEL_NAME, UnsupportedPlatformError
from clara_wf.models import golden
from clara_wf.models.check import KEPT, CheckedModel, check_model, versions_in
from clara_wf.models.config_pbtxt import CONFIG, config_for, problem_of, read_config, with_name
from clara_wf.models.onnx_tensors import OnnxTensors, read_tensors
from clara_wf.models.plain_files import copy_plain, plain_file, require_plain
from clara_wf.models.repository import TRUSTED
from clara_wf.models.trust import require_trust
from stages.errors import InputError, OutputError
from stages.lifecycle import outputs

_ONNX = "model.onnx"
_EXPORT = "export it as ONNX, and add that file (docs/how-to/use-your-own-model.md)"
_TRUST = "look at it, and add it with --trust-code if you trust it:"


@dataclass(frozen=True, kw_only=True)
class AddedModel:
    """A model that was added.

    Attributes
    ----------
    folder
        Where it is now.
    version
        Its number.
    replaced
        The version that it replaced; None for a new model.
    problem
        What its description lacks; None if it is complete.
    checked
        What became of it on a real Triton; None if it is incomplete or no server runs on this machine.
    """

    folder: Path
    version: int
    replaced: int | None
    problem: str | None
    checked: CheckedModel | None


def add_model(
    source: Path,
    repository: Path,
    *,
    name: str | None = None,
    cache: Path,
    print_line: Callable[[str], None],
    trust_code: bool = False,
) -> AddedModel:
    """Add an ONNX file, or a folder with ``config.pbtxt`` and versions, to a repository.

    Parameters
    ----------
    source
        The ONNX file, or the folder.
    repository
        The model repository.
    name
        Of the model; default: that of the file or folder. An ONNX file for a model that is there gets the
        description of that model.
    cache
        Where the model server is installed.
    print_line
        Called with a line for the user before what takes a while.
    trust_code
        Whether programs that the model brings along are trusted; each is told, and recorded beside the model.

    Raises
    ------
    InputError
        If the source is no model, or incomplete and a model of that name is there; if something of it leads
        out of its folder, or would run and nobody trusts it.
    InferenceError
        If it does not run on a real Triton as it describes itself.
    OutputError
        If the repository cannot be written; what was there still is.
    """
    name = name or (source.stem if source.is_file() else source.resolve().name)
    if not MODEL_NAME.fullmatch(name):
        raise InputError(f"a model is named with letters, digits and . _ -, found {name!r}; give a --name")
    if not repository.is_dir():
        raise InputError(
            f"there is no model repository {repository}; make the folder, or name one with --models"
        )
    target = repository.resolve() / name
    try:
        with sole_editor(target, wait_s=ADD_WAIT_S), made_beside(repository) as beside:
            return _add(
                source, target, beside / name, cache=cache, print_line=print_line, trust_code=trust_code
            )
    except OSError as error:
        if isinstance(error, InputError | OutputError):
            raise
        raise OutputError(f"cannot add {name} to {repository}: {error.strerror or error}") from error


def _add(
    source: Path,
    target: Path,
    made: Path,
    *,
    cache: Path,
    print_line: Callable[[str], None],
    trust_code: bool,
) -> AddedModel:
    replaced = max(versions_in(target), default=None)
    if source.is_dir() and (source / CONFIG).is_file():
        require_plain(source, room_bytes=shutil.disk_usage(made.parent).free)
        require_trust(source, trusted=trust_code, print_line=print_line, advice=_TRUST, is_ours=False)
    version = _copy_model(source, made, target if replaced else None)
    (made / TRUSTED).unlink(missing_ok=True)  # of where it comes from: trust is given here
    require_trust(made, trusted=trust_code, print_line=lambda line: None, advice=_TRUST)
    problem = problem_of(made)
    checked = None
    if problem is None:
        checked = _tried(made, cache, print_line)
    elif replaced is not None:
        raise InputError(f"{problem}; {target} stays as it is, since an incomplete model replaces none")
    if replaced is not None:
        _keep(target, made, replaced)
    outputs.sync_tree(made)
    put(made, target)
    return AddedModel(folder=target, version=version, replaced=replaced, problem=problem, checked=checked)


def _tried(made: Path, cache: Path, print_line: Callable[[str], None]) -> CheckedModel | None:
    """Check a model where it was made, and record its golden case."""
    (made / golden.GOLDEN).unlink(missing_ok=True)  # of where it comes from
    try:
        checked = check_model(made.name, made.parent, cache=cache, print_line=print_line)
    except UnsupportedPlatformError as error:
        print_line(f"the model was not tried: {error}")
        return None
    golden.record(made, np.asarray(checked.mask.array))
    return replace(checked, agreement={})


# The files of the model


def _copy_model(source: Path, made: Path, old: Path | None) -> int:
    """Copy a model, with a configuration, into a new folder, and return its version."""
    if not source.exists():
        raise InputError(f"there is no {source}; expected an ONNX file or the folder of a model")
    if not source.is_dir() and not source.is_file():
        raise InputError(
            f"{source} is neither a file nor a folder; expected an ONNX file or a model's folder"
        )
    version = max(versions_in(old), default=0) + 1 if old else 1
    made.mkdir()
    if source.is_dir() and (source / CONFIG).is_file():
        return _copy_folder(source, made, version, renumber=old is not None)
    _copy_onnx(_onnx_of(source), made, version, old)
    return version


def _copy_folder(source: Path, made: Path, version: int, *, renumber: bool) -> int:
    read_config(source)
    versions = versions_in(source)
    if not versions:
        raise InputError(f"{source} has no version; expected such as {source / '1' / _ONNX}")
    for path in sorted(source.iterdir()):
        if path.is_dir() and (path.name.startswith(".") or (renumber and path.name.isdigit())):
            continue
        copy_plain(path, made / path.name, source)
    if renumber:
        copy_plain(source / str(versions[-1]), made / str(version), source)
    config = (made / CONFIG).read_text(encoding="utf-8")
    (made / CONFIG).write_text(with_name(config, made.name), encoding="utf-8")
    return version if renumber else versions[-1]


def _onnx_of(source: Path) -> Path:
    if source.is_file():
        return source
    found = sorted(source.glob("*.onnx"))
    if len(found) != 1:
        raise InputError(
            f"{source} has no {CONFIG} and {len(found)} files *.onnx; expected a folder of a Triton "
            f"repository, or one ONNX file{_advice_on(source)}"
        )
    return found[0]


def _advice_on(source: Path) -> str:
    """Return what to do with what people also call a model; "" for what is none of them."""
    if source.is_dir():
        return ""
    with source.open("rb") as file:
        begin = file.read(64)
        is_script = begin.startswith(b"PK") and source.suffix in (".pt", ".pth", ".ts")
    if begin.startswith(b"version https://git-lfs"):
        return "; it is the pointer of a file in Git LFS: fetch the file itself (git lfs pull)"
    if is_script or (source.suffix in (".pt", ".pth", ".ckpt") and begin):
        return f"; this looks like a model of PyTorch: {_EXPORT}"
    if begin.startswith((b"PK\x03\x04", b"\x1f\x8b")):
        return "; this looks like an archive: unpack it, and add the folder or file in it"
    return ""


def _copy_onnx(source: Path, made: Path, version: int, old: Path | None) -> None:
    try:
        tensors = read_tensors(source)
    except InputError as error:
        advice = _advice_on(source)
        raise InputError(f"{error}{advice}") from error if advice else None
    folder = made / str(version)
    folder.mkdir()
    shutil.copyfile(source, folder / _ONNX)
    for weights in tensors.weight_files:
        if not os.path.lexists(source.parent / weights):
            raise InputError(f"{source} has weights in {weights}, which is not beside it")
        copy_plain(plain_file(source.parent / weights), folder / weights, source.parent)
    config = config_for(made.name, tensors)
    if old is not None:
        config = _config_of(old, tensors)
    (made / CONFIG).write_text(config, encoding="utf-8")


def _config_of(old: Path, tensors: OnnxTensors) -> str:
    """Return the configuration of the model that is there, if it may serve the new one."""
    served = read_config(old)
    names = [[tensor.name for tensor in each] for each in (served.inputs, served.outputs)]
    if names != [[tensor.name for tensor in each] for each in (tensors.inputs, tensors.outputs)]:
        raise InputError(
            f"{old} has the tensors {names}, the new model {[t.name for t in tensors.inputs]} and "
            f"{[t.name for t in tensors.outputs]}; give it another --name, or a folder with its own {CONFIG}"
        )
    return (old / CONFIG).read_text(encoding="utf-8")


def _keep(old: Path, made: Path, version: int) -> None:
    """Put the old model, and those that it kept, into the new one's folder; linked where that goes."""
    kept = made / KEPT
    if (old / KEPT).is_dir():
        shutil.copytree(old / KEPT, kept, copy_function=_link)
    else:
        kept.mkdir()
    shutil.copytree(
        old, kept / str(version), copy_function=_link, ignore=lambda _folder, _names: {KEPT} & set(_names)
    )


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
