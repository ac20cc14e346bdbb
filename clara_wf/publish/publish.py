"""Publish a workflow: check it, render it, and put it whole and versioned where engines find it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from clara_wf.chart.helm import Helm
from clara_wf.chart.values import narrowed
from clara_wf.definitions.workflow import Workflow, find_workflow, load_workflows
from clara_wf.engines.docker.client import Docker
from clara_wf.files.edit_lock import sole_editor
from clara_wf.publish.published import (
    CHART,
    CURRENT,
    RECORD,
    VERSIONS,
    Published,
    current_version,
    last_version,
    workflow_folder,
)
from clara_wf.yaml.document import read_document
from stages import __version__
from stages.errors import OutputError, SettingsError
from stages.lifecycle import locks, outputs
from stages.runtime import atomic

_WITHOUT_HELM = ("process", "docker")
_JOB = "JOB"  # stands for the job's ID in what is rendered


def publish(
    workflow_id: str,
    display_name: str,
    target: Path,
    *,
    values: Path,
    chart: Path,
    models: Path | None,
    environ: Mapping[str, str],
) -> Published:
    """Publish a workflow; if it is published just like that already, nothing is touched.

    Parameters
    ----------
    workflow_id
        ID or name.
    display_name
        What people see.
    target
        The folder of the published workflows, such as ``/clara-io/clara-core/workflows``.
    values
        The values.yaml that defines it.
    chart
        The chart it is rendered with.
    models
        The model repository whose digests are written down.
    environ
        Where `helm` and `docker` are found.

    Raises
    ------
    SettingsError
        If the workflow has a mistake, or Helm refuses it.
    OutputError
        If it cannot be written; what was published before still is.
    """
    if not display_name.strip():
        raise SettingsError('the display name is empty; give one such as "Liver segmentation"')
    workflow = find_workflow(load_workflows(values), workflow_id)
    files = _chart_files(chart, values, workflow)
    helm = _helm(environ)
    wanted = _description(
        workflow, display_name.strip(), models=models, environ=environ, has_helm=helm is not None
    )
    wanted = replace(wanted, content=_digest(wanted, files))
    folder = workflow_folder(target, workflow.id)
    try:
        (folder / VERSIONS).mkdir(parents=True, exist_ok=True)
        with sole_editor(folder):
            return _write(wanted, files, folder, helm)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"cannot publish in {target}: {error.strerror or error} ({error.filename})"
        ) from error


def _description(
    workflow: Workflow, display_name: str, *, models: Path | None, environ: Mapping[str, str], has_helm: bool
) -> Published:
    """Return what a version says of itself, but for its number, its time and its content."""
    return Published(
        workflow=workflow.id,
        name=workflow.name,
        display_name=display_name,
        version=0,
        published="",
        by=f"clara-stages {__version__}",
        engines=(*_WITHOUT_HELM, "kubernetes") if has_helm else _WITHOUT_HELM,
        images=_image_digests(workflow, environ),
        models=model_digests(models),
        content="",
    )


def unpublish(workflow_id: str, target: Path) -> Published:
    """Take a workflow from the list of those that are published; its versions are kept.

    Parameters
    ----------
    workflow_id, target
        The workflow's ID and the folder of published workflows.

    Raises
    ------
    SettingsError
        If it is not published there.
    OutputError
        If that cannot be written.
    """
    folder = workflow_folder(target, workflow_id)
    if not folder.is_dir():
        raise SettingsError(f"no workflow {workflow_id} is published in {target}")
    with sole_editor(folder):
        found = current_version(folder)
        if found is None:
            raise SettingsError(f"no workflow {workflow_id} is published in {target}")
        try:
            (folder / CURRENT).unlink()
            atomic.sync_folder(folder)
        except OSError as error:
            raise OutputError(f"cannot unpublish in {target}: {error.strerror}") from error
    return found


def model_digests(repository: Path | None) -> dict[str, str]:
    """Return, by name, one SHA-256 of all files of each model of a repository.

    Parameters
    ----------
    repository
        The model repository; None for no models.
    """
    if repository is None or not repository.is_dir():
        return {}
    models = [path for path in sorted(repository.iterdir()) if (path / "config.pbtxt").is_file()]
    return {path.name: _digest_of([vars(file) for file in outputs.describe_files(path)]) for path in models}


def _write(wanted: Published, files: Mapping[str, bytes], folder: Path, helm: Helm | None) -> Published:
    last = last_version(folder)
    if last is None or last.content != wanted.content:
        number = last.version + 1 if last else 1
        made = replace(wanted, version=number, published=locks.now(), folder=folder / VERSIONS / str(number))
        _make_version(made, files, helm)
        last = replace(made, is_new=True)
    current = current_version(folder)
    if current is None or current.version != last.version:
        beside = folder / f".{CURRENT}.{os.getpid()}"
        beside.unlink(missing_ok=True)
        beside.symlink_to(Path(VERSIONS, str(last.version)))
        atomic.rename(beside, folder / CURRENT)
        last = replace(last, is_new=True)
    return last


def _make_version(made: Published, files: Mapping[str, bytes], helm: Helm | None) -> None:
    """Write a version under another name, have it safely on disk, and give it its own."""
    for stale in made.folder.parent.glob(".*.unfinished"):
        shutil.rmtree(stale)
    beside = made.folder.with_name(f".{made.folder.name}.unfinished")
    for name, content in files.items():
        path = beside / CHART / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if helm is not None:
        rendered = helm.template("clara-study", beside / CHART, {"job": {"id": _JOB}})
        (beside / "job.yaml").write_text(rendered, encoding="utf-8")
    record = json.dumps(made.record(), indent=2, ensure_ascii=False)
    (beside / RECORD).write_text(record + "\n", encoding="utf-8")
    outputs.sync_tree(beside)
    atomic.rename(beside, made.folder)


def _chart_files(chart: Path, values: Path, workflow: Workflow) -> dict[str, bytes]:
    """Return the files of the chart by name, with values.yaml narrowed to the workflow."""
    sources = [chart / "Chart.yaml", chart / "values.schema.json", *sorted((chart / "templates").rglob("*"))]
    try:
        files = {path.relative_to(chart).as_posix(): path.read_bytes() for path in sources if path.is_file()}
    except OSError as error:
        raise SettingsError(f"cannot read the chart: {error}") from error
    if "Chart.yaml" not in files:
        raise SettingsError(f"there is no chart in {chart}: Chart.yaml is missing")
    content = {**_settings_of(chart / "values.yaml"), **_settings_of(values)}
    return {**files, "values.yaml": narrowed(content, workflow).encode()}


def _settings_of(values: Path) -> dict[str, Any]:
    if not values.is_file():
        return {}
    return dict(read_document(values).content or {})


def _helm(environ: Mapping[str, str]) -> Helm | None:
    try:
        return Helm.find(environ)
    except SettingsError:
        if environ.get("HELM"):
            raise
        return None


def _image_digests(workflow: Workflow, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the image of each stage with its digest, as far as a Docker engine here has it."""
    images: dict[str, str] = {}
    for step in workflow.steps:
        name = str(step.block.image)
        try:
            images[step.name] = Docker.find(environ).images([name])[name]
        except SettingsError:
            continue
    return images


def _digest(wanted: Published, files: Mapping[str, bytes]) -> str:
    record = wanted.record()
    for changing in ("version", "published", "by", "content"):
        del record[changing]
    contents = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    return _digest_of([record, contents])


def _digest_of(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
