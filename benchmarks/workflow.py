"""What a workflow costs on top of its stages' work, by engine.

    python benchmarks/workflow.py [--engines process,docker,kubernetes] [--studies 1,10,50]

Three stages that sleep for a second run in a chain; every stage starts, waits for its lock, publishes its
own and exits. Printed are the time a stage takes on top of its sleep, and how long after the publication of
a lock the stage that waits for it began (from the locks' own times). Docker and Kubernetes need the image
clara/stages.
"""

from __future__ import annotations

import argparse
import os
import secrets
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

from clara_wf.chart.edit import stage_block  # noqa: E402
from clara_wf.definitions.blocks import StageBlock  # noqa: E402
from clara_wf.definitions.workflow import Step, Workflow  # noqa: E402
from clara_wf.engines.choice import ENGINES, make_engine  # noqa: E402
from clara_wf.engines.engine import JobRun  # noqa: E402
from clara_wf.engines.watch import run_workflow  # noqa: E402
from clara_wf.payload import Payload, fill_input, steps_to_run  # noqa: E402
from stages import __version__  # noqa: E402
from stages.lifecycle.locks import read_lock  # noqa: E402

STAGES = ("first", "second", "third")
WORK_S = 1.0
IDLE = ("wrap", "--", "sleep", str(WORK_S))


def chain() -> Workflow:
    """Return a workflow of stages that do nothing."""
    steps = []
    image = {"repository": "clara/stages", "tag": __version__}
    for n, name in enumerate(STAGES):
        before = STAGES[n - 1] if n else None
        steps.append(
            Step(
                name=name,
                block=StageBlock.model_validate(
                    {**stage_block(name, command=["python", "-m", "stages"]), "image": image}
                ),
                wait_locks=(f"{before}.lock" if before else "input.lock",),
                input_folders=(f"{before}/output" if before else f"{name}/input",),
                arguments=IDLE,
            )
        )
    return Workflow(
        id="00000000-0000-4000-8000-000000000000",
        name="idle",
        input_folder="first/input",
        steps=tuple(steps),
        result_folders=("third/output",),
    )


def run_study(engine: str, workflow: Workflow, folder: Path, source: Path) -> list[float]:
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
    outcome = run_workflow(make_engine(engine, models=None), run, on_progress=lambda statuses: None)
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


def measure(engine: str, count: int, folder: Path) -> str:
    """Run so many studies at once and return a line."""
    workflow, source = chain(), folder / "source"
    clock = time.monotonic()
    with ThreadPoolExecutor(max_workers=count) as pool:
        jobs = [folder / f"job-{secrets.token_hex(4)}" for _ in range(count)]
        found = list(pool.map(lambda each: run_study(engine, workflow, each, source), jobs))
    wall = time.monotonic() - clock
    locks = [delay for study in found for delay in study]
    on_top = (wall - len(STAGES) * WORK_S) / len(STAGES)
    return (
        f"{engine:10s} {count:3d} at once: {wall:6.2f} s, {1000 * on_top:5.0f} ms a stage on top, "
        f"{1000 * on_top / count:4.0f} ms for each study; lock seen after "
        f"{1000 * statistics.median(locks):.0f} ms (median), {1000 * max(locks):.0f} ms (longest)"
    )


def main() -> None:
    """Print one line for each engine and number of studies at once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--engines", default="process", help=f"of {', '.join(ENGINES)}")
    parser.add_argument("--studies", default="1,1,1,10,50", help="how many at once, one run each")
    given = parser.parse_args()
    print(f"{len(STAGES)} stages that sleep {WORK_S:g} s, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "source").mkdir()
        (folder / "source/file").touch()
        for engine in given.engines.split(","):
            for count in map(int, given.studies.split(",")):
                print(measure(engine, count, folder), flush=True)


if __name__ == "__main__":
    main()
