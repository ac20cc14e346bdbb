"""What stages that stay save, against one-shot stages in the same run: ``python benchmarks/resident.py``.

    overhead   a chain of three stages that sleep: what a stage costs beyond its sleep, one study and many
    memory     of the host of a stage after 20 jobs and after ``--jobs`` (1000)
    study      the demo study (84 slices) by ``clara-wf test``, with and without ``--warm``
    soak       ``--jobs`` studies of ten kinds (good, bad, crashing, hanging, killed, huge, littering): each
               must end as its kind does, and nothing may be left
    rate       ``--studies`` of it at once by one service: how much of the time the model's stage works

Name some of them to run only those. Studies run in turn, cold and warm, so that both see the same machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from clara_wf.chart.edit import stage_block  # noqa: E402
from clara_wf.definitions.workflow import find_workflow, load_workflows  # noqa: E402
from clara_wf.engines.engine import JobRun  # noqa: E402
from clara_wf.engines.process import ProcessEngine, program_of  # noqa: E402
from clara_wf.engines.watch import run_workflow  # noqa: E402
from clara_wf.payload import Payload, fill_input, steps_to_run  # noqa: E402
from clara_wf.residents.pools import Pools  # noqa: E402
from clara_wf.residents.programs import pool_name  # noqa: E402
from stages.lifecycle.locks import read_lock  # noqa: E402
from stages.resident import orders  # noqa: E402

LIVER_SEG = "fd3ee8bf-b9f3-4808-bd60-243f870ff9bd"
IDLE = "00000000-0000-4000-8000-000000000000"
STAGES = ("first", "second", "third")
WORK_S = 0.2
SCRIPT = f"""
import os, sys, time
from stages import main
def execute(job):
    time.sleep({WORK_S})
if __name__ == "__main__":
    sys.exit(main(execute, sys.argv[1:], os.environ))
"""


def environ() -> dict[str, str]:
    """Return the environment of all that is started here."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def idle_chain(folder: Path) -> Path:
    """Write a values.yaml with three stages in a row that sleep, and return it."""
    (folder / "stage.py").write_text(SCRIPT)
    command = ["python", str(folder / "stage.py")]
    workflow = {
        "name": "idle",
        "stages": list(STAGES),
        "waitLocks": ["", *(f"{name}.lock" for name in STAGES[:-1])],
        "ioFolders": ["first/input", *(f"{name}/output" for name in STAGES)],
        "args": ["", "", ""],
    }
    blocks = {name: stage_block(name, command=command) for name in STAGES}
    values = folder / "values.yaml"
    values.write_text(json.dumps({"stages": blocks, "workflows": {IDLE: workflow}}))
    (folder / "source").mkdir()
    (folder / "source/file").touch()
    return values


def run_idle(values: Path, job: str, engine: ProcessEngine) -> float:
    """Run the chain once, and return its wall time, seconds."""
    workflow = find_workflow(load_workflows(values), IDLE)
    payload = Payload(root=values.parent / "payloads" / job, job_id=job)
    payload.make_folders(workflow)
    fill_input(payload, workflow, values.parent / "source")
    to_run = steps_to_run(payload, workflow, fresh=True)
    run = JobRun(
        workflow=workflow, payload=payload, to_run=to_run, triton_url=None, timeout_s=600, environ=environ()
    )
    clock = time.monotonic()
    outcome = run_workflow(engine, run, on_progress=lambda statuses: None)
    if outcome.exit_code:
        raise SystemExit(f"a study failed: {outcome.culprit}")
    return time.monotonic() - clock


@contextmanager
def kept(values: Path, count: int) -> Iterator[tuple[Path, Pools]]:
    """Keep the chain's stages ready, and yield where they take orders."""
    pools = Pools(values.parent / "pools")
    try:
        for step in find_workflow(load_workflows(values), IDLE).steps:
            pools.keep(program_of(step, environ(), at_once=count))
        pools.wait_until_ready()
        yield pools.folder, pools
    finally:
        pools.close()


def overhead(given: argparse.Namespace, folder: Path) -> None:
    """Print what a stage costs beyond its work, for one study and for many at once."""
    values = idle_chain(folder)
    with kept(values, given.many) as (residents, _):
        engines = {"one-shot": ProcessEngine(), "resident": ProcessEngine(residents)}
        found: dict[str, list[float]] = {name: [] for name in engines}
        for n in range(given.runs + 1):
            for name, engine in engines.items():
                seconds = run_idle(values, f"{name}-{n}", engine)
                if n:
                    found[name].append((seconds - len(STAGES) * WORK_S) / len(STAGES))
        medians = {name: 1000 * statistics.median(each) for name, each in found.items()}
        show("overhead a stage", medians, "ms")
        many = {}
        for name, engine in engines.items():
            with ThreadPoolExecutor(given.many) as threads:
                clock = time.monotonic()
                list(threads.map(lambda n: run_idle(values, f"{name}-many-{n}", engine), range(given.many)))  # noqa: B023
                many[name] = 1000 * (time.monotonic() - clock - len(STAGES) * WORK_S) / given.many
        show(f"overhead a study, {given.many} at once", many, "ms")


def memory(given: argparse.Namespace, folder: Path) -> None:
    """Print the memory of a host after 20 jobs and after many."""
    values = idle_chain(folder)
    (folder / "stage.py").write_text(SCRIPT.replace(f"time.sleep({WORK_S})", "kept = bytearray(1 << 20)"))
    workflow = find_workflow(load_workflows(values), IDLE)
    with kept(values, 8) as (residents, _):
        program = program_of(workflow.steps[0], environ())
        queue = residents / pool_name(program)
        host = int(next(queue.glob("*.host")).stem.rpartition("-")[2])
        sizes = {}
        for n in range(1, given.jobs + 1):
            order_one(queue, folder / "jobs" / str(n), program.environ)
            if n in (20, given.jobs):
                sizes[n] = int(Path(f"/proc/{host}/statm").read_text().split()[1]) * 4096 / 2**20
        after = ", ".join(f"{size:.1f} MiB after {n} jobs" for n, size in sizes.items())
        open_files = len(os.listdir(f"/proc/{host}/fd"))
        print(f"host of a stage: {after}; {open_files} open files")


def order_one(queue: Path, job: Path, own: Mapping[str, str]) -> None:
    """Have one stage done, and remove its job."""
    for name in ("input", "locks"):
        (job / name).mkdir(parents=True)
    (job / "locks/input.lock").touch()
    folders = {"INPUT": job / "input", "OUTPUT": job / "output", "LOCKDIR": job / "locks"}
    settings = {f"NVIDIA_CLARA_{key}": str(value) for key, value in folders.items()}
    log = str(job / "log")
    ticket = orders.put(
        queue,
        orders.Order(environ={**own, **settings}, folder="/", umask=0o022, output=log, errors=log),
    )
    while (code := ticket.exit_code()) is None:
        time.sleep(0.001)
    ticket.close()
    if code:
        raise SystemExit(f"a job failed with {code}: {Path(log).read_text()}")
    subprocess.run(["rm", "-rf", str(job)], check=True)


@contextmanager
def service(payloads: Path, at_once: int, workflow: str = LIVER_SEG, *more: str) -> Iterator[None]:
    """Serve a workflow until the block ends."""
    log = payloads.parent / "service.log"
    with log.open("wb") as output:
        command = ["serve", workflow, "--payloads", str(payloads), "--at-once", str(at_once), *more]
        process = subprocess.Popen(clara_wf(*command), env=environ(), stdout=output, stderr=output)
    try:
        while "ready for jobs" not in log.read_text():
            if process.poll() is not None:
                raise SystemExit(log.read_text())
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def clara_wf(*arguments: str) -> list[str]:
    """Return a command line."""
    return [sys.executable, "-m", "clara_wf", *arguments]


def run_demo(payloads: Path, job: str, *more: str) -> tuple[float, float]:
    """Run the demo study; return its wall time, and what of it lies outside of its stages, seconds."""
    places = ROOT / "clara-reference-workflows/test-data/11111111-1111-1111-1111-111111111111"
    source = places / "dicom-reader/input"
    command = clara_wf("test", LIVER_SEG, job, "--input", str(source), "--payloads", str(payloads), *more)
    clock = time.monotonic()
    subprocess.run(command, env=environ(), check=True, capture_output=True)
    wall = time.monotonic() - clock
    began, ended = spans(payloads / job)
    return wall, wall - (ended["dicom-writer"] - began["dicom-reader"])


def spans(payload: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Return when each stage of a job began and ended to work, seconds."""
    began, ended = {}, {}
    for name in ("dicom-reader", "ai-livertumor", "dicom-writer"):
        lock = read_lock(payload / f"locks/{name}.lock")
        assert lock is not None
        began[name] = datetime.fromisoformat(lock.started).timestamp()
        ended[name] = datetime.fromisoformat(lock.finished).timestamp()
    return began, ended


def study(given: argparse.Namespace, folder: Path) -> None:
    """Print the wall time of the demo study, and what of it is not its stages' work."""
    subprocess.run(
        clara_wf("test", LIVER_SEG, "--payloads", str(folder / "first")),
        env=environ(),
        check=True,
        capture_output=True,
    )
    payloads = folder / "payloads"
    with service(payloads, 1):
        found: dict[str, list[tuple[float, float]]] = {"one-shot": [], "resident": []}
        for n in range(given.runs + 1):
            for name, more in (("one-shot", ()), ("resident", ("--warm",))):
                measured = run_demo(payloads, f"{name}-{n}", *more)
                if n:
                    found[name].append(measured)
    for place, what in enumerate(("demo study, wall", "of it beyond the stages")):
        show(
            what, {name: statistics.median(each[place] for each in all_) for name, all_ in found.items()}, "s"
        )


def rate(given: argparse.Namespace, folder: Path) -> None:
    """Print how many studies an hour a service does, and for how much of the time the model's stage works."""
    payloads = folder / "payloads"
    with service(payloads, 3):
        run_demo(payloads, "first", "--warm")
        with ThreadPoolExecutor(given.studies) as threads:
            jobs = [f"rate-{n}" for n in range(given.studies)]
            list(threads.map(lambda job: run_demo(payloads, job, "--warm"), jobs))
        all_spans = [spans(payloads / job) for job in jobs]
    began = sorted(each["ai-livertumor"] for each, _ in all_spans)
    ended = sorted(each["ai-livertumor"] for _, each in all_spans)
    works = sum(e["ai-livertumor"] - b["ai-livertumor"] for b, e in all_spans)
    whole = ended[-1] - began[0]
    print(
        f"{given.studies} studies at once: {3600 * (len(ended) - 1) / (ended[-1] - ended[0]):.0f} an hour; "
        f"the model's stage works {works / whole:.0%} of the time"
    )


KINDS = {
    "good": ("pass", 0),
    "bad": ("raise InputError('it is bad')", 3),
    "unforeseen": ("{}['series']", 1),
    "leaving": ("os._exit(9)", 9),
    "killed": ("os.kill(os.getpid(), 9)", 1),
    "crashing": ("import ctypes; ctypes.string_at(0)", 1),
    "hanging": ("time.sleep(600)", 4),
    "huge": (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 28,) * 2); bytearray(1 << 30)",
        1,
    ),
    "parting": ("import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)", 0),
    "littering": (
        "import tempfile; tempfile.mkdtemp(); sys.argv.append(os.environ.setdefault('LEFT', '1'))",
        0,
    ),
}
"""What the stage of a study of each kind does, and the exit code of its job."""


def soak(given: argparse.Namespace, folder: Path) -> None:
    """Run many studies of all kinds through a service, and check that each ends as it should."""
    values = idle_chain(folder)
    acts = "".join(f"    if kind == {kind!r}: {act}\n" for kind, (act, _) in KINDS.items())
    (folder / "stage.py").write_text(
        SCRIPT.replace("import main", "import InputError, main").replace(
            f"    time.sleep({WORK_S})\n",
            f"    assert 'LEFT' not in os.environ\n    kind = (job.source_dir / 'kind').read_text()\n{acts}",
        )
    )
    for kind in KINDS:
        (folder / kind).mkdir()
        (folder / kind / "kind").write_text(kind)
    payloads = folder / "payloads"
    before = {place: set(os.listdir(place)) for place in ("/dev/shm", tempfile.gettempdir())}
    with service(payloads, 4, IDLE, "--values", str(values), "--server", "none", "--stage-count", "4"):
        hosts = sorted((payloads / ".resident").rglob("*.host"))
        names = [list(KINDS)[n % len(KINDS)] for n in range(given.jobs)]
        run = [(f"{kind}-{n}", folder / kind) for n, kind in enumerate(names)]
        with ThreadPoolExecutor(8) as threads:
            early = list(threads.map(lambda each: order_job(payloads, values, *each), run[:40]))
            sizes = [memory_of(host) for host in hosts]
            codes = early + list(threads.map(lambda each: order_job(payloads, values, *each), run[40:]))
        grown = [memory_of(host) / size for host, size in zip(hosts, sizes, strict=True)]
        same = hosts == sorted((payloads / ".resident").rglob("*.host"))
    wrong = [
        f"{name}: {code}"
        for (name, _), code, kind in zip(run, codes, names, strict=True)
        if code != KINDS[kind][1]
    ]
    left = [
        n for place, seen in before.items() for n in set(os.listdir(place)) - seen if n.startswith("clara")
    ]
    others = [each.name for each in payloads.iterdir() if each.name not in dict(run)]
    right, stayed = len(codes) - len(wrong), "the same to the end" if same else "replaced"
    print(
        f"{given.jobs} studies of {len(KINDS)} kinds: {right} ended as they should {wrong[:5]}; "
        f"hosts {stayed}, memory x {max(grown):.3f} since study 40; left: {left}, payloads {others}"
    )


def memory_of(host: Path) -> float:
    """Return the resident memory of a host, pages."""
    return int(Path(f"/proc/{host.stem.rpartition('-')[2]}/statm").read_text().split()[1])


def order_job(payloads: Path, values: Path, job: str, source: Path) -> int:
    """Have one job run by the service, and return its exit code."""
    arguments = [IDLE, job, "2", "--input", str(source), "--payloads", str(payloads), "--values", str(values)]
    order = orders.Order(
        arguments=(*arguments, "--server", "none"),
        environ=environ(),
        folder="/",
        umask=0o022,
        output=os.devnull,
        errors=os.devnull,
    )
    ticket = orders.put(payloads / ".resident/jobs", order)
    while (code := ticket.exit_code()) is None:
        time.sleep(0.01)
    ticket.close()
    return code


def show(what: str, values: Mapping[str, float], unit: str) -> None:
    """Print a line that compares the two."""
    numbers = ", ".join(
        f"{name} {value:.{0 if unit == 'ms' else 2}f} {unit}" for name, value in values.items()
    )
    print(f"{what}: {numbers}, ratio {values['one-shot'] / values['resident']:.1f}", flush=True)


PARTS: dict[str, Callable[[argparse.Namespace, Path], None]] = {
    "overhead": overhead,
    "memory": memory,
    "soak": soak,
    "study": study,
    "rate": rate,
}


def main() -> None:
    """Run the parts that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--runs", type=int, default=5, help="of each kind (default: %(default)s)")
    parser.add_argument("--many", type=int, default=50, help="studies at once (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1000, help="for memory and soak (default: %(default)s)")
    parser.add_argument("--studies", type=int, default=12, help="for the rate (default: %(default)s)")
    given = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")
    for name in given.parts or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            PARTS[name](given, Path(folder))


if __name__ == "__main__":
    main()
