"""What the log, and everybody who shows foreign text, makes of characters that a terminal obeys."""

import logging
import os
from pathlib import Path

import pytest

from stages import InputError
from stages.runtime import logs
from stages.runtime.logs import printable


@pytest.fixture
def log(tmp_path):
    """Configure the log to go to a file, and give what reads it; afterwards all is as it was."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    logs.configure(tmp_path / "stage.log")
    yield lambda: (tmp_path / "stage.log").read_text(encoding="utf-8").splitlines()
    for handler in root.handlers:
        handler.close()
    root.handlers[:], root.level = before


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("IM 1 Größe ｶﾅ.dcm", "IM 1 Größe ｶﾅ.dcm"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\x1b]8;;x\x07b", r"a\x1b]8;;x\x07b"),
        ("a\x9b31mb\x7f", r"a\x9b31mb\x7f"),
        ("a\n2026-01-01 INFO done\r", r"a\n2026-01-01 INFO done\r"),
        ("gpj.\u202emcd\u2066", r"gpj.\u202emcd\u2066"),
        ("a\u2028b\u200bc\ufeff", r"a\u2028b\u200bc\ufeff"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
        ("\ud800\U000e0041", r"\ud800\U000e0041"),
        (r"ORIGINAL\PRIMARY", r"ORIGINAL\PRIMARY"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_an_escape(text, shown):
    assert printable(text) == shown
    assert printable(Path("in", text)) == f"in/{shown}"


def test_a_log_line_is_one_line_without_control_characters_whatever_it_is_made_of(log):
    logging.getLogger("x").warning("skipped %s", "a\x1b]0;t\x07\nforged \udcff")
    (line,) = log()
    assert line.endswith(r"WARNING x: skipped a\x1b]0;t\x07\nforged \xff")


def test_a_traceback_keeps_its_lines_but_no_control_character(log):
    try:
        raise ValueError("\x1b[2J")
    except ValueError:
        logging.getLogger("x").exception("failed")
    lines = log()
    assert lines[0].endswith("ERROR x: failed")
    assert lines[-1] == r"ValueError: \x1b[2J"


def test_an_error_of_a_stage_shows_its_lines_and_obeys_nothing():
    assert (
        str(InputError("a\x1b[2J.mhd is damaged\nsend it again")) == "a\\x1b[2J.mhd is damaged\nsend it again"
    )
