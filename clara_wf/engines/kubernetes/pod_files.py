"""The files of a job on their way into a Pod and back: what is sent, and where what comes is put."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clara_wf.engines.engine import JobRun
from stages.errors import OutputError, printable
from stages.lifecycle import locks, models_file, outputs
from stages.lifecycle.settings import INPUT_LOCK
from stages.pod.messages import Read, Write, place_in, read_content, write_file, write_message
from stages.runtime import atomic


def send(write: Write, run: JobRun, models: Path | None, *, payload: bool) -> None:
    """Write what the stages need: models, folders, files, and the locks last, ``input.lock`` after all.

    Parameters
    ----------
    write
        Sends bytes into the Pod.
    run
        The job that is run.
    models
        A model repository to send; None for none.
    payload
        Send the job's files; False where the Pod sees them anyway.
    """
    if models is not None:
        for path in _files_below(models):
            write_file(write, {"path": f"models/{path.relative_to(models).as_posix()}"}, path)
    if payload:
        for name in _folders(run):
            write_message(write, {"path": f"payload/{name}", "folder": True})
        for folder in _needed(run):
            root = run.payload.root
            for path in _files_below(root / folder):
                write_file(write, {"path": f"payload/{path.relative_to(root).as_posix()}"}, path)
        for name in (*_models(run), *_locks(run)):
            write_file(write, {"path": f"payload/locks/{name}"}, run.payload.lock_dir / name)
    write_message(write, {"end": True})


def _folders(run: JobRun) -> Iterator[str]:
    yield from ("locks", "logs")
    for step in run.workflow.steps:
        yield from (step.output_folder, f"publish/{step.name}")


def _needed(run: JobRun) -> list[str]:
    """Return the job's input, and what stages that are kept have written for those that run."""
    read = [folder for step in run.workflow.steps if step.name in run.to_run for folder in step.input_folders]
    kept = [folder for folder in read if folder.split("/")[0] not in run.to_run]
    return list(dict.fromkeys([run.workflow.input_folder, *kept]))


def _locks(run: JobRun) -> list[str]:
    kept = [step.block.lockName for step in run.workflow.steps if step.name not in run.to_run]
    return [name for name in (*kept, INPUT_LOCK) if (run.payload.lock_dir / name).exists()]


def _models(run: JobRun) -> list[str]:
    """Return the name of the file that says what the models are, if there is one."""
    return [models_file.MODELS] if (run.payload.lock_dir / models_file.MODELS).exists() else []


def _files_below(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


@contextmanager
def _written_here(path: Path) -> Iterator[None]:
    """Raise an `OutputError` where this machine's disk fails; a connection that breaks is made anew."""
    try:
        yield
    except (ConnectionError, OutputError):
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write {printable(path.name)} to the payload: {error.strerror or error}"
        ) from error


class DamagedError(OutputError):
    """What came out of the Pod is not what the stage vouches for."""

    retryable = True


@dataclass(kw_only=True)
class PayloadWriter:
    """Writes what the carrier sends where it belongs in the payload on this machine.

    Attributes
    ----------
    run
        The job that is run.
    fetched
        Stages whose result is here.
    memory
        The most memory of each container, bytes.
    on_synced
        Called with the number of each sync request that was answered.
    """

    run: JobRun
    on_synced: Callable[[int], None]
    fetched: set[str] = field(default_factory=set)
    memory: dict[str, int] = field(default_factory=dict)

    def take(self, header: Mapping[str, Any], read: Read) -> None:
        """Do what a message says.

        Parameters
        ----------
        header
            What the message says of itself.
        read
            Returns the bytes that follow.

        Raises
        ------
        OutputError
            If this machine cannot write it.
        ConnectionError
            If the connection breaks before all of it is here.
        DamagedError
            If a result differs from what its lock says.
        InputError
            If a name leads out of the payload.
        """
        if "append" in header:
            self._append(self._place(header["append"], "logs"), header, read)
        elif "clear" in header:
            self._clear(self._place(header["clear"], "publish", "output"))
        elif "file" in header:
            self._take_file(str(header["file"]), header, read)
        elif "gone" in header:
            self._place(header["gone"], "locks").unlink(missing_ok=True)
        elif "synced" in header:
            self.on_synced(int(header["synced"]))
        elif "beat" in header:
            for name, size in header["memory"].items():
                self.memory[name] = max(self.memory.get(name, 0), int(size))

    def _place(self, name: Any, *kinds: str) -> Path:
        """Return where a name of the payload lies, if the Pod may write there."""
        path = place_in(self.run.payload.root, str(name))
        top, _, rest = str(name).partition("/")
        stage, _, _ = rest.rpartition(".") if top in ("locks", "logs") else rest.partition("/")
        kind = top if top in ("locks", "logs", "publish") else rest.partition("/")[0]
        owner = stage if top in ("locks", "logs", "publish") else top
        if kind not in kinds or owner not in self.run.to_run:
            raise DamagedError(f"the Pod sent {name!r}, which none of its stages writes")
        return path

    def _append(self, path: Path, header: Mapping[str, Any], read: Read) -> None:
        with _written_here(path), path.open("r+b" if path.exists() else "w+b") as file:
            file.seek(int(header["at"]))
            file.truncate()
            for chunk in read_content(read, header):
                file.write(chunk)

    def _clear(self, folder: Path) -> None:
        with _written_here(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)

    def _take_file(self, name: str, header: Mapping[str, Any], read: Read) -> None:
        path = self._place(name, "locks", "publish", "output")
        is_lock = path.parent == self.run.payload.lock_dir
        with _written_here(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic.writing(path, durable=is_lock) as file:
                for chunk in read_content(read, header):
                    file.write(chunk)
                if is_lock and path.suffix == ".lock":
                    file.flush()
                    self._check(path.stem, Path(file.name))
        if is_lock and path.suffix in (".lock", ".failed"):
            self.fetched.add(path.stem)

    def _check(self, stage: str, lock_file: Path) -> None:
        """Refuse a result that is not what its lock vouches for; else have it safely on disk."""
        folder, lock = self.run.payload.folder(f"{stage}/output"), locks.read_lock(lock_file)
        if lock is not None and outputs.describe_files(folder) != lock.outputs:
            raise DamagedError(f"the result of {stage} did not arrive as it was sent")
        outputs.sync_tree(folder)
