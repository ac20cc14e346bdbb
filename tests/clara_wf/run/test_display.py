"""What a person sees of the files of a job."""

import os
from io import StringIO

import pytest

from clara_wf.commands.options import print_line, print_table
from clara_wf.engines.engine import StageStatus
from clara_wf.report.job_report import JobReport
from clara_wf.run.display import LiveProgress, _results, print_report
from clara_wf.text.terminal import Terminal


@pytest.mark.parametrize(
    ("count", "lines"), [(5, [f"/job/x.series/{n}.dcm" for n in range(5)]), (6, ["/job/x.series (6 files)"])]
)
def test_a_folder_of_many_results_is_one_line(count, lines):
    paths = ["/job/x.seg.dcm", *(f"/job/x.series/{n}.dcm" for n in range(count))]
    assert list(_results(paths)) == ["/job/x.seg.dcm", *lines]


def test_without_a_terminal_each_reason_to_wait_is_one_line():
    screen = StringIO()
    with LiveProgress(Terminal(file=screen)) as progress:
        for why in ("waiting for a node: 2 Insufficient memory", "", "starting on node n1"):
            for _ in range(2):
                state = "pending" if why else "starting"
                progress.update([StageStatus(name=name, state=state, message=why) for name in "ab"])
    assert screen.getvalue().splitlines() == [
        *("a: pending", "b: pending", "waiting for a node: 2 Insufficient memory"),
        *("a: starting", "b: starting"),
        *("a: pending", "b: pending", "starting on node n1"),
    ]


def test_warnings_and_names_of_files_are_printed_as_they_are_with_escapes():
    report = JobReport(
        workflow={},
        job="job-1",
        succeeded=True,
        seconds=1.0,
        stages=[],
        warnings=["2 files were left out: [red]a\x1b[2J"],
        findings=[],
        results=[os.fsdecode(b"/job/caf\xe9[bold]:skull:.dcm"), "/job/\x1b]0;t\x07\n\u202e"],
        picture="/job\x1b[2J/picture.png",
        page=None,
        payload="/job",
    )
    screen = StringIO()
    print_report(Terminal(file=screen), report, [StageStatus(name="[red]a\x1b", state="done")])
    printed = screen.getvalue()
    for line in (
        r"warning 2 files were left out: [red]a\x1b[2J",
        r"result  /job/caf\xe9[bold]:skull:.dcm",
        r"result  /job/\x1b]0;t\x07\n\u202e",
        r"picture /job\x1b[2J/picture.png",
    ):
        assert f"\n{line}\n" in printed
    assert r" [red]a\x1b " in printed
    assert "\x1b" not in printed


def test_what_commands_print_holds_nothing_that_a_terminal_obeys(capsys):
    print_table(["message"], [["found [slice, row] \x1b[31m\nsecond line"]])
    print_line("a\tb\r\nc\x9b2J\udcff")
    printed = capsys.readouterr().out
    assert r"found [slice, row] \x1b[31m" in printed
    assert "second line" in printed
    assert printed.endswith("a\tb\nc\\x9b2J\\xff\n")
    assert "\x1b" not in printed
