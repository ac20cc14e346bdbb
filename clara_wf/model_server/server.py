"""A real Triton on this machine for a model repository, when no server is configured."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from clara_wf.model_server import guard as model_server_guard
from clara_wf.model_server.gpu import NvidiaGpu
from clara_wf.model_server.gpu_settings import usable_gpu, view_of
from clara_wf.model_server.health import answers_as, not_ready
from clara_wf.model_server.installation import Installation, assemble_backends, install
from clara_wf.model_server.requirements import ELSEWHERE, ModelServerError, UnsupportedPlatformError
from stages.runtime.processes import own_interpreter

__all__ = ["MODEL_NAME", "ModelServer", "ModelServerError", "UnsupportedPlatformError", "serve"]

logger = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"
_PORT_ATTEMPTS = 5
_POLL_S = 0.02
_LOOPBACK_S = 5.0
_STOP_DEADLINE_S = 15.0
_SMALL_SHARED_MEMORY = 256 * 2**20
_LAST_LINES = 15
MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What to start; all paths are absolute."""

    installation: Installation
    repository: Path
    models: tuple[str, ...]
    log: Path
    gpu: NvidiaGpu | None


class _PortTakenError(Exception):
    """Another program took a port between its choice and the server's start."""


@dataclass(frozen=True, kw_only=True)
class ModelServer:
    """A running server.

    Attributes
    ----------
    grpc_url, http_url
        ``127.0.0.1:PORT`` of its two endpoints.
    models
        What it serves.
    log
        Its output.
    on_gpu
        Whether it has a GPU, on which each model of the ``onnxruntime`` backend runs unless its configuration
        says otherwise.
    """

    grpc_url: str
    http_url: str
    models: tuple[str, ...]
    log: Path
    on_gpu: bool
    _guard: subprocess.Popen[bytes] = field(repr=False, compare=False)

    def check(self) -> None:
        """Return if the server is alive.

        Raises
        ------
        ModelServerError
            If it has ended, with the end of its log.
        """
        if self._guard.poll() is not None:
            raise ModelServerError(f"the model server has ended; the end of {self.log}:\n{_tail(self.log)}")


@contextmanager
def serve(
    repository: Path,
    *,
    models: Sequence[str] | None = None,
    cache: Path,
    log: Path,
    on_progress: Callable[[str], None],
    ready_timeout_s: float = 300.0,
    environ: Mapping[str, str] | None = None,
) -> Iterator[ModelServer]:
    """Serve models until the block ends; the server never outlives this process.

    Parameters
    ----------
    repository
        A Triton model repository: ``<model>/config.pbtxt`` and ``<model>/1/model.onnx``.
    models
        What to serve; default: every model of the repository.
    cache
        Where the server is installed the first time.
    log
        File for the server's output; overwritten.
    on_progress
        Called with a line for the user before what takes a while.
    ready_timeout_s
        Longest time for the models to load, seconds.
    environ
        Where a GPU is looked for: ``CLARA_GPU=off`` says no. Where there is one that does not do, a line says
        why and the models are served from the CPU. Default: the environment of this process.

    Raises
    ------
    ModelServerError
        If the server does not run on this machine, or a model cannot be served, with the server's reason.
    """
    names = _models_to_serve(repository, models)
    gpu, lack = usable_gpu(environ)
    if lack:
        on_progress(_without_gpu(lack))
    installation = _installation(cache, gpu=gpu is not None, print_line=on_progress)
    _require_loopback()
    model_server_guard.sweep()
    _mention_small_shared_memory(on_progress)
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    plan = _Plan(
        installation=installation,
        repository=repository.resolve(),
        models=names,
        log=log.resolve(),
        gpu=gpu if installation.gpu else None,
    )
    server = _start_where_it_can(plan, ready_timeout_s, on_progress)
    try:
        logger.info("serving %s at %s after %.1f s", names, server.grpc_url, time.monotonic() - started)
        yield server
    finally:
        _stop(server._guard)


def _installation(cache: Path, *, gpu: bool, print_line: Callable[[str], None]) -> Installation:
    """Return the server's installation; that for a GPU, unless it cannot be made."""
    if gpu:
        try:
            return install(cache, on_progress=print_line, gpu=True)
        except UnsupportedPlatformError:
            raise
        except ModelServerError as error:
            print_line(_without_gpu(str(error)))
    return install(cache, on_progress=print_line)


def _start_where_it_can(plan: _Plan, timeout_s: float, print_line: Callable[[str], None]) -> ModelServer:
    """Start the server with the GPU; without it if it does not serve the models there."""
    if plan.gpu is not None:
        started = time.monotonic()
        try:
            server = _start(plan, timeout_s)
        except ModelServerError as error:
            kept = plan.log.with_name(f"{plan.log.name}.gpu")
            plan.log.replace(kept)
            print_line(_without_gpu(str(error).replace(str(plan.log), str(kept))))
        else:
            print_line(f"the model server uses {plan.gpu}, ready after {time.monotonic() - started:.1f} s")
            return server
    return _start(replace(plan, gpu=None), timeout_s)


def _without_gpu(reason: str) -> str:
    return f"the model server answers from the CPU: {' '.join(reason.split())}"


def _models_to_serve(repository: Path, models: Sequence[str] | None) -> tuple[str, ...]:
    found = tuple(sorted(path.parent.name for path in repository.glob("*/config.pbtxt")))
    if not found:
        raise ModelServerError(
            f"no model in {repository}; put one there (<model>/config.pbtxt and <model>/1/model.onnx), "
            f"{ELSEWHERE}"
        )
    names = found if models is None else tuple(models)
    for name in names:
        if name not in found:
            raise ModelServerError(f"no model {name!r} in {repository}; it has {', '.join(found)}")
        if not MODEL_NAME.fullmatch(name):
            raise ModelServerError(
                f"a model's folder is named with letters, digits and . _ -, found {name!r}"
            )
    return names


def _start(plan: _Plan, timeout_s: float) -> ModelServer:
    for _ in range(_PORT_ATTEMPTS):
        name = model_server_guard.new_name()
        http_port, grpc_port = _free_ports(2)
        server = ModelServer(
            grpc_url=f"{_LOOPBACK}:{grpc_port}",
            http_url=f"{_LOOPBACK}:{http_port}",
            models=plan.models,
            log=plan.log,
            on_gpu=plan.gpu is not None,
            _guard=_spawn_guard(plan, name, _command(plan, name, http_port, grpc_port)),
        )
        try:
            _wait_until_ready(server, plan, name, timeout_s)
        except _PortTakenError:
            _stop(server._guard)
        except BaseException:
            _stop(server._guard)
            raise
        else:
            return server
    raise ModelServerError(
        f"found no free ports for the model server in {_PORT_ATTEMPTS} attempts; try again"
    )


def _command(plan: _Plan, name: str, http_port: int, grpc_port: int) -> list[str]:
    backends = assemble_backends(plan.installation).relative_to(plan.installation.folder)
    return [
        str(plan.installation.tritonserver),
        f"--id={name}",
        f"--backend-directory={model_server_guard.plain_path(name, 'installation') / backends}",
        f"--backend-config=python,shm-region-prefix-name={name}-",
        f"--model-repository={model_server_guard.plain_path(name, 'repository')}",
        "--model-control-mode=explicit",
        *(f"--load-model={model}" for model in plan.models),
        "--disable-auto-complete-config",
        "--exit-on-error=false",  # so that it can be asked why a model did not load
        "--allow-metrics=false",
        *(f"--http-address={_LOOPBACK}", f"--http-port={http_port}"),
        *(f"--grpc-address={_LOOPBACK}", f"--grpc-port={grpc_port}"),
    ]


def _spawn_guard(plan: _Plan, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
    folders = [plan.installation.python_bin, plan.installation.folder, plan.repository]
    view = view_of(plan.repository, on_gpu=plan.gpu is not None)
    wanted = json.dumps({"on_gpu": plan.gpu is not None, "configurations": view})
    arguments = [name, str(os.getpid()), *map(str, folders), wanted, *command]
    plan.log.write_bytes(b"")
    with plan.log.open("ab") as output:
        return subprocess.Popen(
            own_interpreter(model_server_guard.__name__, *arguments),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a terminal's Ctrl-C is for this process, which then ends the guard
        )


def _stop(guard: subprocess.Popen[bytes]) -> None:
    """Have the guard end the server and wait until it has."""
    assert guard.stdin is not None
    guard.stdin.close()
    try:
        guard.wait(_STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        guard.kill()  # takes the server with it
        guard.wait()
        model_server_guard.sweep()


def _wait_until_ready(server: ModelServer, plan: _Plan, name: str, timeout_s: float) -> None:
    """Return when this server, and no other at its port, has loaded its models."""
    deadline = time.monotonic() + timeout_s
    while not answers_as(server.http_url, name):
        if server._guard.poll() is not None:
            if "already in use" in server.log.read_text(errors="replace"):
                raise _PortTakenError
            server.check()
        if time.monotonic() > deadline:
            raise ModelServerError(
                f"the model server did not become ready within {timeout_s:g} s; the end of {server.log}:\n"
                f"{_tail(server.log)}"
            )
        time.sleep(_POLL_S)
    for model, reason in not_ready(server.http_url, plan.models, log=plan.log).items():
        told = reason.replace(str(model_server_guard.plain_path(name, "repository")), str(plan.repository))
        raise ModelServerError(
            f"the model server could not load model {model!r}: {told} (its log: {plan.log})"
        )


def _require_loopback() -> None:
    """Return if a program here reaches another; where it does not, the server would be waited for in vain."""
    with socket.socket() as listening, socket.socket() as asking:
        asking.settimeout(_LOOPBACK_S)
        try:
            listening.bind((_LOOPBACK, 0))
            listening.listen()
            asking.connect(listening.getsockname())
        except OSError as error:
            raise ModelServerError(
                f"the model server would not be reached: {_LOOPBACK} does not answer ({error}); bring "
                f"the loopback interface up (ip link set lo up), {ELSEWHERE}"
            ) from error


def _free_ports(count: int) -> list[int]:
    """Return ports of the loopback interface that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((_LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _mention_small_shared_memory(print_line: Callable[[str], None]) -> None:
    """Print a warning when windows may not fit: containers have 64 MB of shared memory by default."""
    place = model_server_guard.SHARED_MEMORY
    free = shutil.disk_usage(place).free
    if free < _SMALL_SHARED_MEMORY:
        print_line(
            f"{place} has only {free / 2**20:.0f} MB free, and the model server passes its tensors there; "
            f"in a container give it more (docker run --shm-size=2g)"
        )


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LAST_LINES:])
