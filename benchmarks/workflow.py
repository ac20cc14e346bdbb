"""What a workflow costs on top of its stages' work: ``python benchmarks/workflow.py [--studies 1,10,50]``.

Three stages that sleep for a second run in a chain, as processes; every stage starts, waits for its
lock, publishes its own and exits. Printed are the time on top of the sleep, a stage, and how long after
the publication of a lock the stage that waits for it began (from the locks' own times).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from clara_wf.blocks import StageBlock  # noqa: E402
from clara_wf.chart import stage_block  # noqa: E402
from clara_wf.engines import JobRun  # noqa: E402
from clara_wf.engines.process import ProcessEngine  # noqa: E402
from clara_wf.engines.watch import run_workflow  # noqa: E402
from clara_wf.payload import Payload, fill_input, steps_to_run  # noqa: E402
from clara_wf.workflow import Step, Workflow  # noqa: E402
from stages.locks import read_lock  # noqa: E402

STAGES = ("first", "second", "third")
WORK_S = 1.0
IDLE = f"""
import os, sys, time
from stages import main
sys.exit(main(lambda job: time.sleep({WORK_S}), sys.argv[1:], os.environ))
"""


def chain(script: Path) -> Workflow:
    """Return a workflow of stages that do nothing."""
    steps = []
    for n, name in enumerate(STAGES):
        before = STAGES[n - 1] if n else None
        steps.append(
            Step(
                name=name,
                block=StageBlock.model_validate(stage_block(name, command=["python", str(script)])),
                wait_locks=(f"{before}.lock" if before else "input.lock",),
                input_folders=(f"{before}/output" if before else f"{name}/input",),
                arguments=(),
            )
        )
    return Workflow(
        id="idle",
        name="idle",
        input_folder="first/input",
        steps=tuple(steps),
        result_folders=("third/output",),
    )


def run_study(workflow: Workflow, folder: Path, source: Path) -> list[float]:
    """Run one study; return the delays of its locks, seconds."""
    payload = Payload(root=folder, job_id=folder.name)
    payload.make_folders(workflow)
    fill_input(payload, workflow, source)
    run = JobRun(
        workflow=workflow,
        payload=payload,
        to_run=steps_to_run(payload, workflow, fresh=True),
        triton_url=None,
        timeout_s=600,
        environ=os.environ,
    )
    outcome = run_workflow(ProcessEngine(), run, on_progress=lambda statuses: None)
    if outcome.exit_code != 0:
        raise SystemExit(f"a study failed: {outcome.culprit}")
    return delays(payload)


def delays(payload: Payload) -> list[float]:
    """Return the time from one stage's lock to the beginning of the next, seconds."""
    found = [read_lock(payload.lock_dir / f"{name}.lock") for name in STAGES]
    return [
        (datetime.fromisoformat(after.started) - datetime.fromisoformat(before.finished)).total_seconds()
        for before, after in pairwise(found)
        if before is not None and after is not None
    ]


def main() -> None:
    """Print one line for each number of studies at once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", default="1,1,1,10,50", help="how many at once, one run each")
    counts = [int(count) for count in parser.parse_args().studies.split(",")]
    print(f"{len(STAGES)} stages that sleep {WORK_S:g} s, process engine, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        script, source = Path(folder, "idle.py"), Path(folder, "source")
        script.write_text(IDLE)
        source.mkdir()
        (source / "file").touch()
        workflow = chain(script)
        for n, count in enumerate(counts):
            clock = time.monotonic()
            with ThreadPoolExecutor(max_workers=count) as pool:
                folders = [Path(folder, f"job-{n}-{k}") for k in range(count)]
                found = list(pool.map(lambda each: run_study(workflow, each, source), folders))
            wall = time.monotonic() - clock
            locks = [delay for study in found for delay in study]
            on_top = (wall - len(STAGES) * WORK_S) / len(STAGES)
            print(
                f"{count:3d} at once: {wall:6.2f} s, {1000 * on_top:5.0f} ms a stage on top of its work, "
                f"{1000 * on_top / count:4.0f} ms a stage of each study; lock seen after "
                f"{1000 * statistics.median(locks):.0f} ms (median), {1000 * max(locks):.0f} ms (longest)"
            )


if __name__ == "__main__":
    main()
