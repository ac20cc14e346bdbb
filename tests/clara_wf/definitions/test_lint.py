# ruff: noqa: E501 - the table of mistakes reads best with a line each
"""Every rule for values.yaml, each with the line and column of the mistake."""

from pathlib import Path

import pytest

from clara_wf.definitions.lint import lint
from stages.errors import SettingsError
from tests.onnx_models import add_model

SPLEEN = {"name": "Spleen", "type": {"value": "78961009", "meaning": "Spleen"}, "rgb": [157, 108, 162]}
CHART = Path(__file__).parents[3] / "clara-reference-workflows/charts/clara-workflow/values.yaml"

GOOD = """\
stages:
  ##BEGIN_a##
  a:
    image:
      repository: lab/a
      tag: "1"
    mount:
      in:
        name: "input"
      out:
        name: "output"
    stageName: "a"
    appDir: "/app"
    inputLock: "/app/locks/input.lock"
    inputs: "input"
    logName: "/app/logs/a.log"
    outputs: "output"
    lockDir: "/app/locks"
    lockName: "a.lock"
    timeout: "300"
    publishPath: "/publish"
  ##END_a##
  ##BEGIN_b##
  b:
    image: {repository: b, tag: latest}
    mount: {in: {name: input}, out: {name: output}}
    stageName: b
    appDir: /app
    inputLock: /app/locks/input.lock
    inputs: input
    logName: /app/logs/b.log
    outputs: output
    lockDir: /app/locks
    lockName: b.lock
    timeout: 300
    publishPath: /publish
    gpu: true
    command: [b, --fast]
    resources: {limits: {memory: 2Gi, cpu: 500m}}
    env: {OMP_NUM_THREADS: "1"}
  ##END_b##

workflows:
  7b413e24-d018-4689-8c41-73272f6649d4:
    name: "two"
    stages: ["a", "b"]
    waitLocks: ["", "a.lock"]
    ioFolders: ["a/input", "a/output", "b/output"]
    args: ["", ["-p", "foo"]]
"""
LABELLED = """\
    labels:
      - {value: 5, name: Spleen, type: {value: 78961009, meaning: Spleen}, rgb: [1, 2, 3]}
    args: ["", ["-p\""""


@pytest.fixture
def found(tmp_path):
    """Return a function that gives the findings for the good file after a replacement."""

    def found(old="", new=""):
        assert old in GOOD
        path = tmp_path / "values.yaml"
        path.write_text(GOOD.replace(old, new) if old else GOOD)
        return [str(finding) for finding in lint(path)]

    return found


def test_the_shipped_chart_has_no_finding():
    assert lint(CHART) == []


@pytest.mark.parametrize("amount", ["1", "0.5", "500m", "1.5", "1e3", '"2"', "2000m", "0"])
def test_quantities_may_be_written_as_numbers(found, amount):
    assert found("cpu: 500m", f"cpu: {amount}") == []
    assert found("memory: 2Gi", "memory: 1.5e9") == []


def test_a_file_with_every_optional_key_has_no_finding(found):
    assert found() == []
    assert found('    args: ["", ["-p"', LABELLED) == []


@pytest.mark.parametrize(
    ("meanings", "more", "warned"),
    [
        ({}, "", "nobody said what labels 1, 2 of the mask mean, and dicom-writer will refuse it"),
        ({"1": SPLEEN}, "", "nobody said what label 2 of the mask means"),
        (
            {"1": SPLEEN},
            "    labels: [{value: 2, name: B, type: {value: 1, meaning: B}, rgb: [1, 2, 3]}]\n",
            None,
        ),
        ({"1": SPLEEN, "2": {**SPLEEN, "name": "Other"}}, "", None),
    ],
)
def test_a_model_whose_labels_nobody_named_is_warned_of(tmp_path, meanings, more, warned):
    add_model(tmp_path / "models", "m", image=[1, 4, 4, 4], scores=[3, 4, 4, 4], label_meanings=meanings)
    path = tmp_path / "values.yaml"
    path.write_text(GOOD.replace('["-p", "foo"]', '["--model", "m"]').rstrip() + "\n" + more)
    findings = [finding for finding in lint(path, models=tmp_path / "models")]
    assert [finding.severity for finding in findings] == (["warning"] if warned else [])
    assert all(warned in finding.message and finding.line == 49 for finding in findings)


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        # a stage's keys and types
        ('      tag: "1"\n', "", "4:5: error: stages.a.image.tag: the key 'tag' is missing"),
        ('tag: "1"', "tag: 1.10", "6:7: error: stages.a.image.tag: expected text, found 1.1; quote it"),
        ("    timeout: 300", "    timout: 300", "35:5: error: stages.b.timout: unknown key 'timout'; write 'timeout'"),
        ('timeout: "300"', 'timeout: "soon"', '20:5: error: stages.a.timeout: expected a positive number of seconds, found "soon"'),
        ('timeout: "300"', "timeout: -1", "20:5: error: stages.a.timeout: expected a positive number of seconds, found -1"),
        ("gpu: true", 'gpu: "true"', "37:5: error: stages.b.gpu: expected true or false"),
        ("memory: 2Gi", "memory: 2 GB", "39:26: error: stages.b.resources.limits.memory: expected a quantity such as 512Mi"),
        ("cpu: 500m", "cpu: true", "39:39: error: stages.b.resources.limits.cpu: expected a quantity such as 512Mi, 2 or 500m, found true"),
        ("cpu: 500m", 'cpu: "1,5"', "39:39: error: stages.b.resources.limits.cpu: expected a quantity such as 512Mi, 2 or 500m, found '1,5'"),
        ("cpu: 500m", "cpu: -1", "39:39: error: stages.b.resources.limits.cpu: expected a quantity"),
        ("memory: 2Gi", "memory: 512", "39:26: error: stages.b.resources.limits.memory: 512 is 512 bytes; write '512Mi' if you mean MiB"),
        ("memory: 2Gi", "memory: 500m", "39:26: error: stages.b.resources.limits.memory: 500m is 0.5 bytes; write '500Mi' if you mean MiB"),
        ("cpu: 500m", "gpu: 1", "39:39: error: stages.b.resources.limits.gpu: 'gpu' is nothing that a cluster counts; write 'nvidia.com/gpu'"),
        ("cpu: 500m", "nvidia.com/gpu: 0.5", "39:39: error: stages.b.resources.limits.nvidia.com/gpu: found 0.5; nvidia.com/gpu is counted in whole ones"),
        ("cpu: 500m}", "cpu: 1}, requests: {cpu: 2}", "39:59: error: stages.b.resources.requests.cpu: 2 is more than the limit, 1; ask for at most the limit"),
        ("cpu: 500m}", "cpu: 1}, requests: {nvidia.com/gpu: 1}", "stages.b.resources.requests.nvidia.com/gpu: nvidia.com/gpu is asked for without a limit; write it under limits: nvidia.com/gpu: 1"),
        ("stages:\n", "carrier: {resources: {limits: {memory: 64}}}\nstages:\n", "1:32: error: carrier.resources.limits.memory: 64 is 64 bytes; write '64Mi'"),
        ('THREADS: "1"', "THREADS: 1", "40:11: error: stages.b.env.OMP_NUM_THREADS: expected text, found 1; quote it"),
        ("OMP_NUM_THREADS:", "OMP-THREADS:", 'stages.b.env.OMP-THREADS: "OMP-THREADS" is no name of an environment variable'),
        ("[b, --fast]", "[b, 1]", "38:5: error: stages.b.command: expected text, found 1; quote it"),
        # a stage's names and folders
        ("  a:\n", "  A_1:\n", "3:3: error: stages.A_1: 'A_1' is no DNS label; use at most 63"),
        ("  a:\n", "  ready:\n", "3:3: error: stages.ready: 'ready' is taken by the toolkit; call the stage something else"),
        ('stageName: "a"', 'stageName: "x"', "12:5: error: stages.a.stageName: found 'x'; write 'a'"),
        ('lockName: "a.lock"', 'lockName: "b.lock"', "19:5: error: stages.a.lockName: found 'b.lock'; write 'a.lock'"),
        ('appDir: "/app"', 'appDir: "app"', "13:5: error: stages.a.appDir: 'app' is no absolute path"),
        ('inputs: "input"', 'inputs: "../other"', "15:5: error: stages.a.inputs: '../other' leads out of appDir"),
        ('outputs: "output"', 'outputs: "input"', "17:5: error: stages.a.outputs: its folder /app/input and that of inputs"),
        ('"/app/locks/input.lock"', '"/tmp/input.lock"', "14:5: error: stages.a.inputLock: '/tmp/input.lock' is not input.lock in lockDir"),
        ('lockDir: "/app/locks"', 'lockDir: "/app/input/locks"', "18:5: error: stages.a.lockDir: its folder /app/input/locks and that of inputs (/app/input) lie in one another"),
        ("lockDir: /app/locks", "lockDir: /app", "stages.b.lockDir: its folder /app and that of source (/app/source) lie in one another"),
        ('    lockDir: "/app/locks"\n', "", "stages.a.lockDir: the key 'lockDir' is missing; `clara-wf cs` writes all keys of a stage"),
        ("  ##END_a##\n", "", "2:1: error: BEGIN_b has no partner here"),
        ("  ##BEGIN_b##\n", "", "##END_b##"),
        # a workflow
        ("7b413e24-d018", "7B413E24-d018", "44:3: error: workflows.7B413E24-d018-4689-8c41-73272f6649d4: a workflow's ID is a UUID in small"),
        ("7b413e24-d018-4689-8c41-73272f6649d4", "two", "44:3: error: workflows.two: a workflow's ID is a UUID"),
        ('["", "a.lock"]', '[""]', "47:5: error: workflows.7b413e24-d018-4689-8c41-73272f6649d4.waitLocks: waitLocks has 1 entries, expected 2"),
        (', "b/output"]', "]", "ioFolders has 2 entries, expected 3 for 2 stages; the last is the folder of the result"),
        ('args: ["", ["-p", "foo"]]', 'args: [""]', "args has 1 entries, expected 2"),
        ('stages: ["a", "b"]', 'stages: ["a", "bb"]', "46:19: error: workflows.7b413e24-d018-4689-8c41-73272f6649d4.stages[1]: no stage 'bb' is defined under 'stages:'; write 'b', or add it with `clara-wf cs bb`"),
        ('stages: ["a", "b"]', 'stages: ["a", "a"]', "46:19: error: workflows.7b413e24-d018-4689-8c41-73272f6649d4.stages[1]: the stage 'a' is listed twice"),
        ('["", "a.lock"]', '["", "aa.lock"]', "47:21: error: workflows.7b413e24-d018-4689-8c41-73272f6649d4.waitLocks[1]: b waits for aa.lock, which no stage of it publishes; write 'a.lock'"),
        ('["", "a.lock"]', '["", "../a.lock"]', "'../a.lock' is not of the form <stage>.lock; write 'a.lock'"),
        ('["", "a.lock"]', '["b.lock", "a.lock"]', "stages wait for one another: a, b"),
        ('["", "a.lock"]', '["", "b.lock"]', "stages wait for one another: b"),
        ('"a/output", "b', '"c/output", "b', "48:28: error: workflows.7b413e24-d018-4689-8c41-73272f6649d4.ioFolders[1]: nobody writes 'c/output'; write '"),
        ('"a/output", "b', '"b/input", "b', "nobody writes 'b/input'"),
        ('"a/output", "b', '"../a/output", "b', "'../a/output' leads out of the job's payload; write 'a/output'"),
        ('"a/output", "b', '"/a/output", "b', "'/a/output' leads out of the job's payload"),
        ('"a/output", "b', '"a/results", "b', "'a/results' is not of the form <stage>/input or <stage>/output"),
        ('"b/output"]', '"a/input"]', "the result is a folder that a stage writes; write 'b/output'"),
        ('["a/input", ', '["b/output", ', "a reads 'b/output' but does not wait for b; add 'b.lock' to its waitLocks"),
        ('"a/output", "b', '"a/ output", "b', "48:28: warning: workflows.7b413e24-d018-4689-8c41-73272f6649d4.ioFolders[1]: 'a/ output' has a blank in it and is read as 'a/output'"),
        ('["-p", "foo"]', '["-p", 5]', "49:16: error: workflows.7b413e24-d018-4689-8c41-73272f6649d4.args[1]: expected text, found 5; quote it"),
        ('["-p", "foo"]', '["-p", ["foo"]]', "expected text, found a list"),
        ('["-p", "foo"]', '"-p foo"', """49:16: warning: workflows.7b413e24-d018-4689-8c41-73272f6649d4.args[1]: '-p foo' reaches the stage as one argument; write ["-p", "foo"] for several"""),
        ('    name: "two"\n', "", "44:3: error: workflows.7b413e24-d018-4689-8c41-73272f6649d4.name: the key 'name' is missing"),
        # what its labels mean
        ('    args: ["", ["-p"', LABELLED.replace("value: 5", "value: 0"), "labels[0].value: expected 1 to 255, found 0; docs/reference/labels.md"),
        ('    args: ["", ["-p"', LABELLED.replace("Spleen, type", "Milz\u00e4, type"), "labels[0].name: expected 1 to 64 printable ASCII characters"),
        ('    args: ["", ["-p"', LABELLED.replace(", meaning: Spleen", ""), "labels[0].type"),
        ('    args: ["", ["-p"', LABELLED.replace("rgb: [1, 2, 3]", "rgb: blue"), "50:76: error: workflows.7b413e24-d018-4689-8c41-73272f6649d4.labels[0].rgb: found 'blue', expected three numbers"),
        ('    args: ["", ["-p"', LABELLED.replace("name:", "nam:"), "labels[0].nam: there is no such key; known are name"),
        ('    args: ["", ["-p"', LABELLED.replace("    args", "      - {value: 5, name: B, type: {value: 1, meaning: B}, rgb: [1, 2, 3]}\n    args"), "labels[1]: two labels have the value 5"),
        ("workflows:\n", "workflow:\n", "1:1: error: the key 'workflows' is missing"),
        # the file
        ("stages:\n  ##", "stages: [a, b]\nold:\n  ##", "1:1: error: stages: expected a block of keys; indent the keys below it"),
        ("  b:\n", "  a:\n", 'error: found duplicate key "a"; a key stands once'),
        ("stages:\n", "stages: [\n", "error: while parsing"),
    ],
)  # fmt: skip
def test_a_mistake_is_found_where_it_stands(found, old, new, finding):
    assert finding in "\n".join(found(old, new))


def test_all_mistakes_are_found_at_once_in_the_order_of_the_file(tmp_path):
    path = tmp_path / "values.yaml"
    path.write_text(
        GOOD.replace('timeout: "300"', "timeout: no").replace("b/output", "x/output").replace('"a.lock"]', '"c.lock"]')
    )  # fmt: skip
    findings = lint(path)
    assert [(f.line, f.column) for f in findings] == [(20, 5), (47, 21), (48, 40)]


def test_two_workflows_of_one_name_are_a_warning(tmp_path):
    path = tmp_path / "values.yaml"
    again = GOOD[GOOD.index("  7b413e24") :].replace("7b413e24", "8b413e24")
    path.write_text(GOOD + again)
    assert [str(f).removeprefix(f"{tmp_path}/") for f in lint(path)] == [
        "values.yaml:51:5: warning: workflows.8b413e24-d018-4689-8c41-73272f6649d4.name: 'two' is also the name"
        " of 7b413e24-d018-4689-8c41-73272f6649d4; give it another name, or call both by their IDs"
    ]


def test_branches_of_a_graph_may_run_beside_one_another(tmp_path):
    path = tmp_path / "values.yaml"
    third = (
        GOOD[GOOD.index("  ##BEGIN_b") : GOOD.index("\nworkflows")]
        .replace("b", "c")
        .replace("puclish", "publish")
    )
    graph = (
        GOOD.replace("\nworkflows", third + "\nworkflows")
        .replace('stages: ["a", "b"]', 'stages: ["a", "b", "c"]')
        .replace('["", "a.lock"]', '["", "a.lock", ["a.lock", "b.lock"]]')
        .replace('"a/output", "b/output"]', '"a/output", ["a/output", "b/output"], ["b/output", "c/output"]]')
        .replace('["-p", "foo"]]', '["-p", "foo"], ""]')
    )
    path.write_text(graph)
    assert [str(f).removeprefix(f"{tmp_path}/") for f in lint(path)] == []


def test_a_block_outside_its_markers_is_told_with_its_line(tmp_path):
    path = tmp_path / "values.yaml"
    path.write_text(
        GOOD.replace("  ##END_a##\n", "").replace("  ##BEGIN_a##\n", "  ##BEGIN_a##\n  ##END_a##\n")
    )
    assert [str(finding).removeprefix(f"{tmp_path}/") for finding in lint(path)] == [
        "values.yaml:2:1: error: the block of a (line 4) does not stand between its markers; "
        "a block stands between ##BEGIN_a## and ##END_a##"
    ]


SETTINGS = "job:\n  backoffLimit: 2\nspread: true\n" + GOOD


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("backoffLimit", "backofLimit", "2:3: error: job.backofLimit: unknown key 'backofLimit'; write 'backoffLimit'"),
        ("backoffLimit: 2", "backoffLimit: two", '2:3: error: job.backoffLimit: expected a whole number, found "two"'),
        ("spread", "sprad", "3:1: error: sprad: unknown key 'sprad'; write 'spread'"),
        ("spread: true", "spread: 'yes'", 'spread: expected true or false, found "yes"'),
        ("spread: true", "labels: {a: 1}", "3:10: error: labels.a: expected text, found 1; quote it"),
        ("spread: true", "labels:", "3:1: error: labels: expected a block of keys, found nothing"),
        ("spread: true", "image: {registry: 'https://x'}", "3:9: error: image.registry: found \"https://x\"; expected: put before"),
        ("spread: true", "workflow: to", "3:1: error: workflow: there is no workflow 'to' (did you mean 'two'?)"),
        ("lab/a", "Lab/A", 'stages.a.image.repository: found "Lab/A"; expected: a name in small letters'),
        ("lab/a", "lab/a:1", 'stages.a.image.repository: found "lab/a:1"'),
        ('tag: "1"', 'tag: "-1"', 'stages.a.image.tag: found "-1"; expected: at most 128'),
        # what Helm, which reads YAML 1.1, takes for a number or a truth value
        ('name: "two"', "name: on", "name: expected text, found true; quote it"),
        ('["-p", "foo"]', '["-p", 0b11]', "args[1]"),
        ('tag: "1"', "tag: 1_0", "image.tag: expected text"),
    ],
)  # fmt: skip
def test_what_helm_would_refuse_is_found_everywhere_in_the_file(tmp_path, old, new, finding):
    path = tmp_path / "values.yaml"
    assert SETTINGS.replace(old, new, 1) != SETTINGS
    path.write_text(SETTINGS.replace(old, new, 1))
    (told,) = map(str, lint(path))
    assert finding in told
    assert told.startswith(f"{path}:")


@pytest.mark.parametrize("written", ["spread: yes", "workflow: two", "image: {registry: 'lab.local:5000/x'}"])
def test_what_helm_takes_is_taken(tmp_path, written):
    path = tmp_path / "values.yaml"
    path.write_text(GOOD + written + "\n")
    assert lint(path) == []


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("[python, /lab/gone.py, --fast]", "/lab/gone.py"),
        ("[python3.12, -u, gone.py]", "gone.py, seen from "),
        ("[/lab/gone, --fast]", "/lab/gone"),
        ("[python, -m, gone]", None),
        ("[gone, /lab/gone.py]", None),
    ],
)
def test_a_file_that_the_command_names_has_to_be_there(tmp_path, command, missing):
    path = tmp_path / "values.yaml"
    path.write_text(GOOD.replace("[b, --fast]", command))
    told = [f"{f.severity} {f.where}: {f.message}" for f in lint(path)]
    assert bool(told) == (missing is not None)
    assert all(f"warning stages.b.command: there is no file {missing}" in each for each in told)


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{n}: &{n} [*{p}, *{p}, *{p}, *{p}]\n" for p, n in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (LAUGHS, "more than 20000 values, aliases (*) written out; definitions are smaller"),
        ("[" * 100_000, ":1:41: error: more than 40 levels in one another"),
        ("- " * 100_000, "more than 40 levels"),
        ("a: &a {b: *a}", "an anchor (&) that holds itself"),
        ("- a\n" * 25_000, "more than 20000 values"),
    ],
    ids=["laughs", "flow", "block", "circle", "long"],
)
def test_a_file_that_grows_when_it_is_read_is_refused_before_it_does(tmp_path, text, finding):
    path = tmp_path / "values.yaml"
    path.write_text(text)
    (told,) = map(str, lint(path))
    assert finding in told


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: 1\n" * 100_000, "has more than 256 KiB, as no file of definitions has"),
        ("a: 1".encode("utf-16"), "is UTF-16, as its byte order mark \\(BOM\\) says; save it as UTF-8"),
        (b"a: 1\nb: \xe4\n", "values.yaml:2: the byte 0xe4 is not UTF-8; save the file as UTF-8"),
    ],
    ids=["large", "utf-16", "latin-1"],
)
def test_a_file_that_is_no_text_of_definitions_is_told_as_such(tmp_path, content, words):
    path = tmp_path / "values.yaml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=words):
        lint(path)


def test_a_byte_order_mark_of_utf_8_is_no_mistake(tmp_path):
    path = tmp_path / "values.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert lint(path) == []


@pytest.mark.parametrize(
    ("content", "place"),
    [("\ufeff\ufeff" + GOOD, "1:2"), (GOOD + "\ufeff# more\n", f"{GOOD.count(chr(10)) + 1}:1")],
)
def test_a_byte_order_mark_inside_the_file_is_told_with_its_place(tmp_path, content, place):
    path = tmp_path / "values.yaml"
    path.write_text(content, encoding="utf-8")
    (told,) = map(str, lint(path))
    assert told.startswith(f"{path}:{place}: error: a byte order mark (BOM, U+FEFF, not to be seen)")
