"""The rules for one stage block, beyond its keys and types."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path as FilePath
from pathlib import PurePosixPath

from clara_wf.definitions.blocks import StageBlock, name_fault
from clara_wf.definitions.resource_rules import resource_problems
from clara_wf.yaml.findings import Path, Problem
from stages.lifecycle.settings import INPUT_LOCK

_ABSOLUTE = ("appDir", "inputLock", "logName", "lockDir", "publishPath")


def stage_problems(name: str, block: StageBlock) -> Iterator[Problem]:
    """Return what is wrong with a stage.

    Parameters
    ----------
    name, block
        The stage's name and the stage's block.
    """
    path: Path = ("stages", name)
    if fault := name_fault(name):
        yield Problem(path=path, message=f"{name!r} {fault[0]}", advice=fault[1])
    for key, expected in (("stageName", name), ("lockName", f"{name}.lock")):
        found = getattr(block, key)
        if found != expected:
            yield Problem(path=(*path, key), message=f"found {found!r}", advice=f"write {expected!r}")
    yield from _command(path, block)
    yield from _paths(path, block)
    yield from _folders(path, block)
    given = block.resources
    yield from resource_problems((*path, "resources"), limits=given.limits, requests=given.requests)


def _command(path: Path, block: StageBlock) -> Iterator[Problem]:
    """Return a file of the command that is not there; another machine may have it, so this is a warning."""
    program, *arguments = block.command or ("",)
    script = next((each for each in arguments if not each.startswith("-")), "")
    named = [program] if "/" in program else []
    if PurePosixPath(program).name.startswith("python") and not {"-m", "-c"} & set(arguments) and script:
        named.append(script)
    for file in named:
        if not FilePath(file).is_file():
            start = "" if FilePath(file).is_absolute() else f", seen from {FilePath.cwd()}"
            yield Problem(
                path=(*path, "command"),
                message=f"there is no file {file}{start}",
                advice="write its whole path, or leave out the command to run the stage's image",
                severity="warning",
            )


def _paths(path: Path, block: StageBlock) -> Iterator[Problem]:
    for key in _ABSOLUTE:
        found = PurePosixPath(getattr(block, key))
        if not found.is_absolute() or ".." in found.parts:
            yield Problem(
                path=(*path, key),
                message=f"{str(found)!r} is no absolute path in the container",
                advice="begin with / and leave out ..",
            )
    for key in ("inputs", "outputs"):
        found = PurePosixPath(getattr(block, key))
        if found.is_absolute() or ".." in found.parts:
            yield Problem(
                path=(*path, key),
                message=f"{str(found)!r} leads out of appDir",
                advice=f'write a folder below {block.appDir}, such as "{key.removesuffix("s")}"',
            )
    if str(PurePosixPath(block.inputLock)) != str(PurePosixPath(block.lockDir) / INPUT_LOCK):
        yield Problem(
            path=(*path, "inputLock"),
            message=f"{block.inputLock!r} is not {INPUT_LOCK} in lockDir",
            advice=f'write "{block.lockDir}/{INPUT_LOCK}"',
        )


def _folders(path: Path, block: StageBlock) -> Iterator[Problem]:
    """Refuse folders of a container that lie in one another: a mount would hide the other."""
    app = PurePosixPath(block.appDir)
    folders = {
        "inputs": app / block.inputs,
        "outputs": app / block.outputs,
        "lockDir": PurePosixPath(block.lockDir),
        "logName": PurePosixPath(block.logName).parent,
        "publishPath": PurePosixPath(block.publishPath),
    }
    taken = [("source", app / "source")]
    for key, folder in folders.items():
        for other_key, other in taken:
            if folder.is_relative_to(other) or other.is_relative_to(folder):
                yield Problem(
                    path=(*path, key),
                    message=f"its folder {folder} and that of {other_key} ({other}) lie in one another",
                    advice="give each its own folder",
                )
        taken.append((key, folder))
