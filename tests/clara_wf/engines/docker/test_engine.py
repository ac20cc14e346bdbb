"""The docker engine with small stages: wiring, failures, signals, limits, and what it leaves behind."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from ruamel.yaml import YAML

from clara_wf.chart import edit
from clara_wf.definitions.workflow import StageBlock, Step, Workflow
from clara_wf.engines.docker.engine import DockerEngine
from clara_wf.engines.engine import JobRun
from clara_wf.engines.process import ProcessEngine
from clara_wf.engines.watch import run_workflow
from clara_wf.payload import Payload, fill_input, steps_to_run
from stages import find_volumes, read_volume
from stages.errors import InferenceError, SettingsError

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[4]
LIVER_SEG = "fd3ee8bf-b9f3-4808-bd60-243f870ff9bd"

COPY = """
    for path in job.input_dir.iterdir():
        (job.output_dir / path.name).write_text(path.read_text() + job.stage_name)
"""
SLEEP = "time.sleep(100)"
FOREIGN = """
import os, pathlib
print("said without a driver", flush=True)
for log in (os.environ["NVIDIA_CLARA_LOGS"], "/app/logs/b.log"):
    with open(log, "a") as file:
        print("written to", log, file=file)
pathlib.Path("/app/output/file").write_text("foreign")
pathlib.Path("/app/locks/b.lock").touch()
"""


def docker(*arguments):
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout


def left_behind(job):
    """Return the containers and networks of a job."""
    label = f"--filter=label=clara.job={job}"
    return docker("ps", "--all", "--quiet", label).split() + docker("network", "ls", "--quiet", label).split()


@pytest.fixture(scope="session")
def program_image(images):
    """An image whose stage is the Python program in its variable BODY."""
    dockerfile = (
        f"FROM {images['stages']}\n"
        """ENTRYPOINT ["python", "-c", "import os; exec(os.environ['BODY'])"]\n"""
    )
    name = "clara-test/program:1"
    subprocess.run(["docker", "build", "-q", "-t", name, "-"], input=dockerfile.encode(), check=True)
    return name


def driven(body):
    """Return a program whose stage does what `body` says."""
    return (
        "import os, sys, time, signal, socket\nfrom stages import main, InputError\ndef execute(job):\n"
        + textwrap.indent(textwrap.dedent(body), "    ")
        + "\nsys.exit(main(execute, [], os.environ))\n"
    )


def block_of(name, image, body, more=None):
    repository, tag = image.split(":")
    env = {"BODY": body if "main(" in body or "/app/" in body else driven(body)}
    usual = edit.stage_block(name, repository=repository, tag=tag)
    return usual | {"timeout": "20", "env": env} | (more or {})


@pytest.fixture
def job(tmp_path, program_image):
    """Run stages a, b, c in a row as containers, each the body of an `execute` function."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("")
    payload = Payload(root=tmp_path / "payloads" / tmp_path.name, job_id=tmp_path.name.replace("_", "-"))

    def prepare(bodies, timeout_s=None, triton_url=None, more=None):
        steps = []
        for n, (name, body) in enumerate(bodies.items()):
            before = list(bodies)[n - 1 : n]
            block = block_of(name, program_image, body, (more or {}).get(name))
            steps.append(
                Step(
                    name=name,
                    block=StageBlock.model_validate(block),
                    wait_locks=tuple(f"{each}.lock" for each in before) or ("input.lock",),
                    input_folders=tuple(f"{each}/output" for each in before) or ("a/input",),
                    arguments=(),
                )
            )
        workflow = Workflow(
            id="w", name="w", input_folder="a/input", steps=tuple(steps), result_folders=("c/output",)
        )
        payload.make_folders(workflow)
        fill_input(payload, workflow, source)
        return JobRun(
            workflow=workflow,
            payload=payload,
            to_run=steps_to_run(payload, workflow, fresh=False),
            triton_url=triton_url,
            timeout_s=timeout_s,
            environ=os.environ,
        )

    def run(*, engine=None, on_progress=lambda statuses: None, **given):
        bodies = {name: given.pop(name) for name in "abc" if name in given}
        job_run = prepare(bodies, **given)
        try:
            return run_workflow(engine or DockerEngine(), job_run, on_progress=on_progress)
        finally:
            assert left_behind(payload.job_id) == []

    run.payload = payload
    run.source = source
    return run


def log_of(job, stage):
    return job.payload.log(stage).read_text()


def test_each_stage_reads_what_the_one_before_wrote(job):
    outcome = job(a=COPY, b=COPY, c=COPY)
    assert outcome.exit_code == 0, outcome.culprit
    assert (job.payload.root / "c/output/file").read_text() == "abc"
    image = docker("image", "inspect", "--format={{.Id}}", "clara-test/program:1").strip()
    assert outcome.images == dict.fromkeys("abc", f"clara-test/program:1@{image}")
    assert all(status.peak_memory_bytes > 10 * 2**20 for status in outcome.statuses)


def test_a_finished_job_starts_no_container(job):
    job(a=COPY)
    outcome = job(a=COPY)
    assert [status.state for status in outcome.statuses] == ["kept"]
    assert outcome.images == {}


def test_a_stage_that_fails_is_named_with_its_exit_code_and_the_job_resumes_there(job):
    outcome = job(a=COPY, b='raise InputError("slice 7 is missing")', c=COPY)
    assert (outcome.culprit.name, outcome.exit_code) == ("b", 3)
    assert outcome.culprit.message == "slice 7 is missing"
    assert [status.exit_code for status in outcome.statuses] == [0, 3, 5]
    outcome = job(a=COPY, b=COPY, c=COPY)
    assert [status.state for status in outcome.statuses] == ["kept", "done", "done"]
    assert (job.payload.root / "c/output/file").read_text() == "abc"


def test_a_stage_that_hangs_ends_at_its_timeout(job):
    outcome = job(a=SLEEP, b=COPY, timeout_s=2)
    assert (outcome.culprit.name, outcome.exit_code) == ("a", 4)
    assert "timeout of 2 s" in outcome.culprit.message


def test_a_stage_that_is_killed_from_outside_is_reported_and_the_job_resumes(job):
    def kill(statuses):
        if statuses[0].state == "working":
            for container in docker(
                "ps", "--quiet", f"--filter=label=clara.job={job.payload.job_id}"
            ).split():
                subprocess.run(["docker", "kill", container], capture_output=True)

    outcome = job(a=SLEEP, on_progress=kill)
    assert (outcome.culprit.name, outcome.exit_code) == ("a", 1)
    assert outcome.culprit.message == "a was ended by SIGKILL before it could say why"
    assert job(a=COPY).exit_code == 0


def test_a_stage_that_takes_more_memory_than_its_limit_is_told_so(job):
    limits = {"a": {"resources": {"limits": {"memory": "128Mi"}}}}
    outcome = job(a='filler = b"x" * 2**29', more=limits)
    assert outcome.culprit.message == (
        "a was killed: out of memory, limit 128Mi; raise resources.limits.memory of stage a in values.yaml"
    )
    assert outcome.exit_code == 1


def test_each_line_of_a_log_is_there_once_also_that_of_a_program_without_a_driver(job):
    assert job(a=COPY, b=FOREIGN).exit_code == 0
    assert log_of(job, "a").count("waiting for input.lock") + log_of(job, "a").count("done in") == 2
    for line in ("said without a driver\n", "written to /dev/stderr\n", "written to /app/logs/b.log\n"):
        assert log_of(job, "b").count(line) == 1


def test_a_stage_is_nobody_and_can_write_and_reach_nothing_but_its_own(job):
    body = """
    import json, pathlib
    seen = {"user": os.getuid(), "capabilities": 0, "written": [], "reached": []}
    for line in open("/proc/self/status"):
        if line.startswith("CapEff"):
            seen["capabilities"] = int(line.split()[1], 16)
    for place in ("/", "/app", "/app/input", "/app/source", "/app/output", "/app/locks", "/publish", "/tmp"):
        try:
            (pathlib.Path(place) / "probe").touch()
            seen["written"].append(place)
        except OSError:
            pass
    for address in (("192.0.2.1", 80), ("198.18.0.1", 443), ("10.0.0.1", 22)):
        try:
            socket.create_connection(address, timeout=2)
            seen["reached"].append(address)
        except OSError as error:
            seen.setdefault("why", error.strerror)
    seen["interfaces"] = sorted(name for _, name in socket.if_nameindex())
    (job.output_dir / "probe").write_text(json.dumps(seen))
    """
    outcome = job(a=body, more={"a": {"env": {"BODY": driven(body)}}})
    assert outcome.exit_code == 0, log_of(job, "a")
    seen = json.loads((job.payload.root / "a/output/probe").read_text())
    assert seen["user"] == (os.getuid() or 10001)
    assert seen["capabilities"] == 0
    assert seen["written"] == ["/app/output", "/app/locks", "/publish", "/tmp"]
    assert seen["reached"] == []
    assert "lo" in seen["interfaces"]
    assert not [name for name in seen["interfaces"] if name.startswith("eth")]


def test_missing_images_are_all_named_with_how_to_get_them(job):
    more = {
        "a": {"image": {"repository": "clara-test/none", "tag": "1"}},
        "b": {"image": {"repository": "clara/dicom-reader", "tag": "0.0.1"}},
    }
    with pytest.raises(SettingsError) as error:
        job(a=COPY, b=COPY, more=more)
    assert "no image clara-test/none:1, clara/dicom-reader:0.0.1" in str(error.value)
    assert "docker build -t clara-test/none:1 FOLDER" in str(error.value)
    assert "scripts/build-images dicom_reader" in str(error.value)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"gpu": True, "resources": {"limits": {"nvidia.com/gpu": "64"}}}, "could not select device driver"),
        ({"lockDir": "locks"}, "invalid mount"),
    ],
)
def test_a_container_that_cannot_be_started_is_a_matter_of_settings(job, more, reason):
    if "gpu" in more and shutil.which("nvidia-smi"):
        pytest.skip("this machine has a GPU")
    outcome = job(a=COPY, more={"a": more})
    assert outcome.exit_code == 2
    assert f"the container could not be started: {reason}" in outcome.culprit.message.replace(
        "Error response from daemon: ", ""
    )


def test_stages_on_the_network_of_the_model_server_cannot_reach_this_machine(job, images):
    """The server is found by its name; a port of this machine, open on every address, is not."""
    body = """
    reached = []
    gateway = socket.gethostbyname(socket.gethostname()).rpartition(".")[0] + ".1"
    for address in [("model-server", 8001), (gateway, int(os.environ["BESIDE"]))]:
        try:
            for _ in range(200 if address[0] == "model-server" else 1):
                try:
                    socket.create_connection(address, timeout=0.2).close()
                    reached.append(address[0])
                    break
                except ConnectionRefusedError:
                    time.sleep(0.05)
        except OSError:
            pass
    (job.output_dir / "reached").write_text(str(reached))
    """
    with Server(b"other", address="0.0.0.0") as beside:
        more = {"a": {"env": {"BODY": driven(body), "BESIDE": str(beside.port)}}}
        outcome = job(a=body, engine=DockerEngine(models=ROOT / "models"), more=more)
    assert outcome.exit_code == 0, log_of(job, "a")
    assert (job.payload.root / "a/output/reached").read_text() == "['model-server']"
    assert "clara/model-server" in outcome.images["model-server"]


def test_only_the_given_server_can_be_reached(job):
    body = """
    host, port = os.environ["NVIDIA_CLARA_TRTISURI"].split(":")
    told = socket.create_connection((host, int(port)), timeout=5).recv(100).decode()
    for address in ((host, int(os.environ["BESIDE"])), ("127.0.0.1", int(port)), ("192.0.2.1", 80)):
        try:
            socket.create_connection(address, timeout=2)
            told += f" {address}"
        except OSError:
            pass
    (job.output_dir / "told").write_text(told)
    """
    with Server(b"triton") as triton, Server(b"other") as beside:
        more = {"a": {"env": {"BODY": driven(body), "BESIDE": str(beside.port)}}}
        outcome = job(a=body, triton_url=f"127.0.0.1:{triton.port}", more=more)
        assert outcome.exit_code == 0, log_of(job, "a")
        assert (job.payload.root / "a/output/told").read_text() == "triton"


class Server:
    """Tell whoever connects a word."""

    def __init__(self, word, address="127.0.0.1"):
        self._socket = socket.create_server((address, 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, args=(word,), daemon=True)

    def _serve(self, word):
        with suppress(OSError):  # nobody came
            connection, _ = self._socket.accept()
            with connection:
                connection.sendall(word)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._socket.shutdown(socket.SHUT_RDWR)  # which ends the wait for somebody to come
        self._socket.close()
        self._thread.join(10)


def test_a_model_server_that_cannot_start_ends_the_job_with_its_reason(job, tmp_path):
    (tmp_path / "models/broken").mkdir(parents=True)
    (tmp_path / "models/broken/config.pbtxt").write_text('backend: "onnxruntime"\n')
    with pytest.raises(InferenceError, match=r"model server has ended.*broken"):
        job(a=SLEEP, engine=DockerEngine(models=tmp_path / "models"))


@pytest.fixture
def started(tmp_path, program_image, job):
    """Return a clara-wf process whose only stage sleeps, once its container runs."""
    chart = {
        "stages": {"a": block_of("a", program_image, SLEEP)},
        "workflows": {
            LIVER_SEG: {
                "name": "sleep",
                "stages": ["a"],
                "waitLocks": [""],
                "ioFolders": ["a/input", "a/output"],
                "args": [""],
            }
        },
    }
    values = tmp_path / "values.yaml"
    YAML().dump(chart, values)
    identity = job.payload.job_id
    options = ["--engine", "docker", "--server", "none", "--input", job.source, "--values", values]
    command = ["test", "sleep", identity, *options, "--payloads", tmp_path / "payloads"]
    process = subprocess.Popen(
        [sys.executable, "-m", "clara_wf", *map(str, command)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    locks = tmp_path / "payloads" / identity / "locks"
    with process:
        try:
            wait_until(lambda: (locks / "a.running").exists() or process.poll() is not None)
            yield SimpleNamespace(process=process, job=identity, locks=locks)
        finally:
            process.kill()


def wait_until(true, *, within_s=30):
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_leaves_nothing_behind(started, number):
    started.process.send_signal(number)
    assert started.process.wait(20) == 1
    assert f"stopped by {number.name}" in started.process.stderr.read()
    assert left_behind(started.job) == []


def test_a_run_that_is_killed_leaves_nothing_behind(started):
    started.process.kill()
    wait_until(lambda: left_behind(started.job) == [])
    assert json.loads((started.locks / "a.failed").read_text())["message"] == "stopped by SIGTERM"


def test_what_a_run_left_that_was_killed_with_its_guard_is_swept_by_the_next(started, job):
    children = Path(f"/proc/{started.process.pid}/task/{started.process.pid}/children").read_text().split()
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
    for pid in [started.process.pid, *(pid for pid, command in commands.items())]:
        os.kill(int(pid), signal.SIGKILL)
    started.process.wait()
    assert len(left_behind(started.job)) == 1
    assert job(a=COPY).exit_code == 0


def test_the_main_job_gives_the_same_mask_as_the_process_engine(images, tmp_path):
    masks = {}
    for engine in (ProcessEngine.name, DockerEngine.name):
        options = ["--engine", engine, "--json", "--payloads", tmp_path / engine]
        done = subprocess.run(
            [sys.executable, "-m", "clara_wf", "test", LIVER_SEG, *map(str, options)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        payload = Path(json.loads(done.stdout)["payload"])
        (path,) = find_volumes(payload / "ai-livertumor/output")
        masks[engine] = read_volume(path)
        (result,) = (payload / "dicom-writer/output").glob("*.dcm")
        assert pydicom.dcmread(result).Modality == "SEG"
    assert np.array_equal(masks["docker"].array, masks["process"].array)
    assert np.array_equal(masks["docker"].affine, masks["process"].affine)
    assert masks["docker"].array.max() == 2


def test_the_example_stage_runs_between_the_reader_and_the_writer(images, tmp_path):
    """Built and added as the users' manual has it, with its own model; it finds the phantom's fat."""
    build = ["docker", "build", "-q", "-t", "user-ai:latest", str(ROOT / "examples/user_ai")]
    subprocess.run(build, check=True, capture_output=True)
    values = tmp_path / "values.yaml"
    shipped = ROOT / "clara-reference-workflows/charts/clara-workflow/values.yaml"
    values.write_text(shipped.read_text())
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}

    def clara_wf(*arguments):
        command = [sys.executable, "-m", "clara_wf", *map(str, arguments), "--values", str(values)]
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    clara_wf("cs", "user-ai")
    clara_wf("new", "user-workflow", "--stages", "dicom-reader,user-ai,dicom-writer", "--id", LIVER_SEG[::-1])
    chart = values.read_text()
    values.write_text(chart.replace('args: ["", "", ""]', 'args: ["", ["-p", "foo"], ""]'))
    shutil.copytree(ROOT / "examples/user_ai/models", tmp_path / "models")
    options = ["--engine", "docker", "--models", tmp_path / "models", "--json"]
    options += ["--payloads", tmp_path / "payloads"]
    payload = Path(json.loads(clara_wf("test", "user-workflow", *options))["payload"])
    (record,) = (payload / "user-ai/output").glob("*.user-ai.json")
    told = json.loads(record.read_text())
    assert told["remark"] == "foo"
    assert 7400 < told["fat_ml"] < 8300  # of the 8720 ml of the phantom it finds 7830
    (result,) = (payload / "dicom-writer/output").glob("*.dcm")
    assert pydicom.dcmread(result).Modality == "SEG"
