"""A workflow drawn as a graph, and what would be run for it."""

from pathlib import Path

from clara_wf.definitions.workflow import Step, Workflow, load_workflows
from clara_wf.engines.process import ProcessEngine
from clara_wf.run.show import graph, plan
from clara_wf.workspace import Places, Workspace
from tests.clara_wf.engines.test_process_engine import block

CHART = Path(__file__).parents[3] / "clara-reference-workflows/charts/clara-workflow/values.yaml"


def step(name, *before):
    return Step(
        name=name,
        block=block(name),
        wait_locks=tuple(f"{b}.lock" for b in before) or ("input.lock",),
        input_folders=tuple(f"{b}/output" for b in before) or ("a/input",),
        arguments=(),
    )


def drawn(*steps, results):
    workflow = Workflow(
        id="w",
        name="w",
        input_folder="a/input",
        steps=steps,
        result_folders=tuple(f"{name}/output" for name in results),
    )
    return [line.split("   ")[0].rstrip() for line in graph(workflow)[2:]]


def test_a_chain_is_one_line_down():
    assert drawn(step("a"), step("b", "a"), results=["b"]) == [
        "○ a/input",
        "│",
        "● a",
        "│",
        "● b",
        "│",
        "○ b/output",
    ]


def test_branches_part_and_meet_again():
    lines = drawn(step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c"), results=["d"])
    assert lines == [
        "○ a/input",
        "│",
        "● a",
        "├─╮",
        "● │ b",
        "│ │",
        "│ ● c",
        "│ │",
        "├─╯",
        "● d",
        "│",
        "○ d/output",
    ]


def test_a_result_of_two_stages_meets_at_the_end():
    lines = drawn(step("a"), step("b", "a"), step("c", "b"), results=["b", "c"])
    assert lines[-4:] == ["│ ● c", "│ │", "├─╯", "○ b/output, c/output"] or lines[-4:] == [
        "● │ c",
        "│ │",
        "├─╯",
        "○ b/output, c/output",
    ]


def test_three_branches_cross_what_lies_between():
    lines = drawn(
        step("a"), step("b", "a"), step("c", "a"), step("d", "a"), step("e", "b", "d"), results=["e", "c"]
    )
    assert "├─┬─╮" in lines
    assert "├─┼─╯" in lines


def test_the_plan_of_a_process_is_a_line_that_can_be_typed(tmp_path):
    workflow = load_workflows(CHART)["fd3ee8bf-b9f3-4808-bd60-243f870ff9bd"]
    places = Places.of(Workspace(root=tmp_path, chosen_by="of the test"), {"CLARA_CACHE": str(tmp_path)})
    lines = plan(workflow, "job-1", places, {}, [ProcessEngine()])["process"]
    assert len(lines) == 3
    assert lines[1].startswith("env NVIDIA_CLARA_JOBID=job-1 NVIDIA_CLARA_STAGENAME=ai-livertumor ")
    assert (
        f"NVIDIA_CLARA_INPUT={tmp_path}/clara-reference-workflows/payloads/job-1/dicom-reader/output"
        in lines[1]
    )
    assert lines[1].endswith("-m ai_livertumor")


def test_a_stage_is_shown_with_its_image_its_time_and_whether_it_wants_a_gpu():
    plain = step("a")
    wants_gpu = Step(
        name="a",
        block=plain.block.model_copy(update={"gpu": True}),
        wait_locks=plain.wait_locks,
        input_folders=plain.input_folders,
        arguments=("-p", "foo"),
    )
    for each, line in (
        (plain, "● a   a:1, 20 s   reads a/input"),
        (wants_gpu, "● a  -p foo   a:1, 20 s, GPU   reads"),
    ):
        workflow = Workflow(
            id="w", name="w", input_folder="a/input", steps=(each,), result_folders=("a/output",)
        )  # fmt: skip
        assert line in "\n".join(graph(workflow))
