"""Studies of small stages: shell scripts that run in the toolkit's image, or as processes here."""

import threading
from pathlib import Path

from clara_wf.chart import edit
from clara_wf.definitions.workflow import StageBlock, Step, Workflow
from clara_wf.engines.engine import JobRun
from clara_wf.engines.kubernetes.engine import KubernetesEngine
from clara_wf.engines.watch import run_workflow
from clara_wf.payload import Payload, fill_input, steps_to_run
from tests.cluster import TAG

ROOT = Path(__file__).parents[3]
COPY = 'for f in /app/input/*; do sed "s/$/{}/" "$f" >"/app/output/${{f##*/}}"; done'


class Study:
    """A job with stages that are shell scripts; they run in the toolkit's image, or as processes here."""

    def __init__(self, folder, environ, job="job"):
        self.environ = environ
        self.payload = Payload(root=folder / job, job_id=job)
        self.source = folder / f"{job}-source"
        self.source.mkdir()
        (self.source / "file").write_text("0\n")

    def workflow(self, *, waits=None, arguments=(), blocks=None, **scripts):
        """Return the stages in a row, or as a graph where `waits` names those each waits for."""
        steps = []
        for n, (name, script) in enumerate(scripts.items()):
            before = waits.get(name, []) if waits else list(scripts)[n - 1 : n]
            steps.append(
                Step(
                    name=name,
                    block=stage_block(name, **(blocks or {}).get(name, {})),
                    wait_locks=tuple(f"{each}.lock" for each in before) or ("input.lock",),
                    input_folders=tuple(f"{each}/output" for each in before) or ("a/input",),
                    arguments=("wrap", "--", "sh", "-c", script, "sh", *arguments),
                )
            )
        last = f"{steps[-1].name}/output"
        identifier = "7b413e24-d018-4689-8c41-73272f6649d4"
        return Workflow(
            id=identifier, name="w", input_folder="a/input", steps=tuple(steps), result_folders=(last,)
        )

    def run(self, *, engine=None, timeout_s=None, on_progress=lambda statuses: None, **wiring):
        workflow = self.workflow(**wiring)
        self.payload.make_folders(workflow)
        fill_input(self.payload, workflow, self.source)
        run = JobRun(
            workflow=workflow,
            payload=self.payload,
            to_run=steps_to_run(self.payload, workflow, fresh=False),
            triton_url=None,
            timeout_s=timeout_s,
            environ={**self.environ, "PYTHONPATH": str(ROOT)},
        )
        return run_workflow(engine or KubernetesEngine(), run, on_progress=on_progress)

    def result(self, stage, file="file"):
        return (self.payload.root / stage / "output" / file).read_text()


def stage_block(name, **more):
    usual = edit.stage_block(name, repository="clara/stages", tag=TAG, command=["python", "-m", "stages"])
    return StageBlock.model_validate(usual | {"timeout": "60"} | more)


def states(outcome):
    return [(status.name, status.state) for status in outcome.statuses]


def when(status, state, action):
    """Return what does something once, when a stage has come to a state."""
    done = threading.Event()

    def on_progress(statuses):
        found = next(each for each in statuses if each.name == status)
        if found.state == state and not done.is_set():
            done.set()
            action()

    return on_progress
