"""A workflow for people: its graph, and what each engine would run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clara_wf.definitions.workflow import Step, Workflow
from clara_wf.engines.engine import Engine, JobRun
from clara_wf.payload import Payload, checked_job_id
from clara_wf.workspace import Places
from stages.lifecycle.settings import INPUT_LOCK

_RESULT = "\0result"  # no stage is called so


def graph(workflow: Workflow) -> list[str]:
    """Return the lines of a graph, from the input at the top to the result at the bottom.

    Each column is a lock on its way from the stage that publishes it to one that waits for it.
    """
    lines = [f"{workflow.name}  {workflow.id}", "", f"○ {workflow.input_folder}"]
    by_lock = {step.block.lockName: step.name for step in workflow.steps} | {INPUT_LOCK: ""}
    results = [folder.split("/")[0] for folder in workflow.result_folders]
    children: dict[str, list[str]] = {name: [] for name in by_lock.values()}
    for step in workflow.steps:
        for lock in step.wait_locks:
            children[by_lock[lock]].append(step.name)
    for name in results:
        children[name].append(_RESULT)
    lanes: list[str | None] = ["start"]
    lines += _branch(lanes, 0, children[""])
    for step in workflow.steps:
        merged, column = _merge(lanes, step.name)
        lines += merged
        lines.append(_row(lanes, column, "●") + _words(step))
        lines += _branch(lanes, column, children[step.name])
    merged, column = _merge(lanes, _RESULT)
    return [*lines, *merged, _row(lanes, column, "○") + ", ".join(workflow.result_folders)]


def plan(
    workflow: Workflow, job: str, places: Places, environ: Mapping[str, str], engines: Sequence[Engine]
) -> dict[str, list[str]]:
    """Return, by engine, the lines that would be run for a job.

    Parameters
    ----------
    workflow, job, places
        The workflow, the job's ID and where things lie.
    environ, engines
        Environment variables and the engines to ask.
    """
    run = JobRun(
        workflow=workflow,
        payload=Payload(root=places.payloads / checked_job_id(job), job_id=job),
        to_run={step.name: "planned" for step in workflow.steps},
        triton_url=None,
        timeout_s=None,
        environ=environ,
    )
    return {engine.name: engine.plan(run) for engine in engines}


def _words(step: Step) -> str:
    block = step.block
    arguments = f"  {' '.join(step.arguments)}" if step.arguments else ""
    gpu = ", GPU" if block.gpu else ""
    reads = ", ".join(step.input_folders)
    return f"{step.name}{arguments}   {block.image}, {block.timeout:g} s{gpu}   reads {reads}"


def _row(lanes: Sequence[str | None], column: int, sign: str) -> str:
    """Return a line with a sign in one lane and a bar in each other that is in use."""
    return "".join(f"{sign if n == column else '│' if lane else ' '} " for n, lane in enumerate(lanes))


def _merge(lanes: list[str | None], name: str) -> tuple[list[str], int]:
    """Bring the lanes that lead to a stage together in the leftmost of them."""
    columns = [n for n, lane in enumerate(lanes) if lane == name]
    first = columns[0] if columns else _free(lanes)
    if not columns:
        lanes[first] = name
    lines = [_bow(lanes, first, columns[1:], "╯")] if len(columns) > 1 else []
    for column in columns[1:]:
        lanes[column] = None
    while lanes and lanes[-1] is None:
        lanes.pop()
    return lines, first


def _branch(lanes: list[str | None], column: int, children: Sequence[str]) -> list[str]:
    """Lead a lane on to the stages that wait for this one."""
    if not children:
        lanes[column] = None
        return []
    lanes[column] = children[0]
    added = []
    for child in children[1:]:
        lanes.append(child)
        added.append(len(lanes) - 1)
    return [_bow(lanes, column, added, "╮")] if added else [_row(lanes, -1, "").rstrip()]


def _free(lanes: list[str | None]) -> int:
    lanes.append(None)
    return len(lanes) - 1


def _bow(lanes: Sequence[str | None], first: int, others: Sequence[int], corner: str) -> str:
    """Return a line that joins lanes to the right of one with it."""
    cells = []
    for n, lane in enumerate(lanes):
        inside = first < n < others[-1]
        if n == first:
            cells.append("├─")
        elif n == others[-1]:
            cells.append(f"{corner} ")
        elif n in others:
            cells.append("┴─" if corner == "╯" else "┬─")
        elif inside:
            cells.append("┼─" if lane else "──")
        else:
            cells.append("│ " if lane else "  ")
    return "".join(cells).rstrip()
