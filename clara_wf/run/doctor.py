"""What works on this machine, what is missing, and how to get it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeAlias

from clara_wf.definitions.lint import lint
from clara_wf.definitions.workflow import load_workflows
from clara_wf.engines.kubernetes.cluster import Cluster
from clara_wf.model_server.gpu import NvidiaGpu, find_gpu, is_wanted, unfit_reason
from clara_wf.model_server.gpu_settings import COMPUTE_CAPABILITY, CUDA
from clara_wf.model_server.installation import TRITON_VERSION, installation_in
from clara_wf.model_server.requirements import PlatformFacts, UnsupportedPlatformError, check_platform
from clara_wf.models.config_pbtxt import lack_of
from clara_wf.workspace import VALUES, Places, Workspace
from clara_wf.yaml.findings import errors_of
from stages.arrays import device_available
from stages.errors import StageError

Verdict: TypeAlias = Literal["ok", "missing", "wrong"]
_FREE_BYTES = 10e9
_PATIENCE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Examined:
    """One thing that was looked at.

    Attributes
    ----------
    what
        What was looked at.
    verdict
        ``missing`` for what one can do without, ``wrong`` for what has to be put right.
    found
        What is there.
    advice
        What it is good for and how to get it, where it is not "ok".
    """

    what: str
    verdict: Verdict
    found: str
    advice: str = ""


def examine(places: Places, environ: Mapping[str, str]) -> Iterator[Examined]:
    """Look at one thing after the other."""
    yield _python()
    yield _workspace(places.workspace)
    yield from (_folder("payloads", places.payloads), _folder("cache", places.cache))
    yield _chart(places)
    yield _models(places)
    yield _model_server(places)
    yield from examine_gpu(find_gpu(environ), cache=places.cache, wanted=is_wanted(environ))
    yield from _docker(places)
    yield from _cluster(environ)


def _python() -> Examined:
    version = platform.python_version()
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Examined(
        what="Python",
        verdict="ok" if fits else "wrong",
        found=version,
        advice="" if fits else "use 3.11 to 3.13",
    )


def _workspace(workspace: Workspace) -> Examined:
    found = f"{workspace.root}, {workspace.chosen_by}"
    if not (workspace.root / VALUES).is_file():
        return Examined(
            what="workspace",
            verdict="wrong",
            found=found,
            advice="it holds no chart; make one: clara-wf init DIR",
        )
    advice = "`clara-wf init DIR` makes one that you can change" if workspace.is_packaged else ""
    return Examined(what="workspace", verdict="ok", found=found, advice=advice)


def _folder(what: str, folder: Path) -> Examined:
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        return Examined(
            what=what, verdict="wrong", found=f"{there} cannot be written", advice="change its owner"
        )
    free = shutil.disk_usage(there).free
    return Examined(
        what=what,
        verdict="ok" if free > _FREE_BYTES else "missing",
        found=f"{folder}, {free / 1e9:.0f} GB free",
        advice="" if free > _FREE_BYTES else f"{_FREE_BYTES / 1e9:.0f} GB are a good beginning",
    )


def _chart(places: Places) -> Examined:
    try:
        findings = lint(places.values)
    except StageError as error:
        return Examined(
            what="chart", verdict="wrong", found=str(error), advice="give another one with --values"
        )
    wrong = len(errors_of(findings))
    if wrong:
        return Examined(
            what="chart", verdict="wrong", found=f"{wrong} mistake(s)", advice="run `clara-wf lint`"
        )
    count = len(load_workflows(places.values))
    return Examined(what="chart", verdict="ok", found=f"{places.values}, {count} workflows")


def _models(places: Places) -> Examined:
    found = sorted(path.parent.name for path in places.models.glob("*/config.pbtxt"))
    if not found:
        advice = "a model is a folder <name>/config.pbtxt with <name>/1/model.onnx"
        return Examined(what="models", verdict="missing", found=f"none in {places.models}", advice=advice)
    lacking = {name: lack for name in found if (lack := lack_of(places.models / name))}
    if lacking:
        advice = "; ".join(f"{name} lacks: {lack}" for name, lack in lacking.items())
        told = ", ".join(f"{name} (incomplete)" if name in lacking else name for name in found)
        return Examined(what="models", verdict="wrong", found=told, advice=advice)
    return Examined(what="models", verdict="ok", found=", ".join(found))


def _model_server(places: Places) -> Examined:
    what = "model server"
    try:
        check_platform(PlatformFacts.of_this_machine())
    except UnsupportedPlatformError as error:
        return Examined(what=what, verdict="missing", found=str(error), advice="use --server HOST:PORT")
    installed = sorted(places.cache.glob(f"triton-{TRITON_VERSION}-*/complete"))
    found = "is installed" if installed else "can run here; the first test installs it (160 MB to fetch)"
    return Examined(what=what, verdict="ok", found=f"Triton {TRITON_VERSION} {found}")


def examine_gpu(gpu: NvidiaGpu | None, *, cache: Path, wanted: bool = True) -> Iterator[Examined]:
    """Look at the GPU, at what works on it beside the model, and at what computes the model.

    Parameters
    ----------
    gpu
        What the driver says of it.
    cache
        Where the model server is installed.
    wanted
        Whether the environment leaves it to be used.
    """
    if gpu is None:
        found = "none seen" if wanted else "not asked for (CLARA_GPU)"
        advice = "everything runs on the CPU; an NVIDIA GPU needs its driver (libcuda.so.1)" if wanted else ""
        yield Examined(what="GPU", verdict="missing" if wanted else "ok", found=found, advice=advice)
        return
    yield Examined(what="GPU", verdict="ok", found=str(gpu))
    yield _cupy(gpu)
    yield _provider(gpu, cache)


def _cupy(gpu: NvidiaGpu) -> Examined:
    """Look at what pre- and post-processing need."""
    extra = f"cuda{min(gpu.cuda[0], 13)}"
    advice = (
        f"pre- and post-processing run on the CPU; install the extra: pip install 'clara-stages[{extra}]'"
    )
    if find_spec("cupy") is None:
        return Examined(what="CuPy", verdict="missing", found="not installed", advice=advice)
    import cupy

    if not device_available():
        found = f"{cupy.__version__}, which cannot use the GPU"
        return Examined(what="CuPy", verdict="missing", found=found, advice=advice)
    return Examined(what="CuPy", verdict="ok", found=str(cupy.__version__))


def _provider(gpu: NvidiaGpu, cache: Path) -> Examined:
    """Look at what computes the model in the embedded server."""
    what = "model on the GPU"
    lack = unfit_reason(gpu, cuda=CUDA, compute_capability=COMPUTE_CAPABILITY)
    if lack:
        advice = "models are computed on the CPU; put a newer driver in"
        return Examined(what=what, verdict="missing", found=lack, advice=advice)
    installation = installation_in(cache, gpu=True)
    if not installation.is_complete:
        return Examined(what=what, verdict="ok", found="can be; the first test installs it (1.3 GB to fetch)")
    packages = [path.name for path in installation.folder.glob("python/lib/python3*/site-packages/*")]
    tensorrt = ", TensorRT where a model asks for it" if "tensorrt_libs" in packages else ""
    return Examined(what=what, verdict="ok", found=f"ONNX Runtime's CUDA provider{tensorrt}")


def _docker(places: Places) -> Iterator[Examined]:
    version = _answer(["docker", "version", "--format", "{{.Server.Version}}"])
    if version is None:
        advice = "for --engine docker: install Docker and let this user reach its engine (DOCKER_HOST)"
        yield Examined(what="Docker", verdict="missing", found="no engine answers", advice=advice)
        return
    yield Examined(what="Docker", verdict="ok", found=version)
    try:
        steps = [step for workflow in load_workflows(places.values).values() for step in workflow.steps]
    except StageError:
        return
    images = sorted({str(step.block.image) for step in steps})
    lacking = [
        image for image in images if _answer(["docker", "image", "inspect", "-f", "ok", image]) is None
    ]
    yield Examined(
        what="images",
        verdict="missing" if lacking else "ok",
        found=f"lacking: {', '.join(lacking)}" if lacking else ", ".join(images),
        advice="build them, see docs/how-to/build-images.md" if lacking else "",
    )


def _cluster(environ: Mapping[str, str]) -> Iterator[Examined]:
    helm = environ.get("HELM") or shutil.which("helm")
    yield Examined(
        what="Helm",
        verdict="ok" if helm else "missing",
        found=(_answer([helm, "version", "--short"]) or helm) if helm else "none on PATH",
        advice="" if helm else "for --engine kubernetes and for publish: install Helm 3 or 4, or set HELM",
    )
    advice = "for --engine kubernetes: a kubeconfig (KUBECONFIG) of a cluster that answers"
    try:
        yield Examined(what="cluster", verdict="ok", found=_ask_cluster(environ))
    except StageError as error:
        yield Examined(what="cluster", verdict="missing", found=str(error), advice=advice)


def _ask_cluster(environ: Mapping[str, str]) -> str:
    with Cluster.connect(environ) as cluster:
        version, nodes = cluster.version(), cluster.nodes()
    if nodes is None:
        return f"Kubernetes {version} at {cluster.host}"
    gpus = sum(int(node["status"].get("allocatable", {}).get("nvidia.com/gpu", 0)) for node in nodes)
    return f"Kubernetes {version}, {len(nodes)} node(s), {gpus} GPU(s)"


def _answer(command: Sequence[str]) -> str | None:
    """Return what a program prints; None if it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.strip().splitlines()
    return lines[0] if done.returncode == 0 and lines else None
