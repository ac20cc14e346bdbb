"""Regular expressions of a configuration: what is taken, what is refused, and how long the worst takes."""

import re
import time

import pytest

from dicom_adapter.config.load import examine
from dicom_adapter.config.patterns import checked_pattern, matches
from tests.dicom_adapter.config.test_load import SMALL


@pytest.mark.parametrize(
    "pattern",
    [
        "(?i)AXIAL",
        "liver|portal",
        "^thin .*mm$",
        r"(?:liver|portal) (phase|ven)\s*\d+(\.\d+)?\s*mm",
        "(?i)^(?=.*liver)(?=.*portal)(?!.*scout)",
        "a.*b.*c.*d.*e",
        "^.*a.*b.*c.*d.*$",
        r"(?i)^(ct )?abd(omen)?.*(ven|port).*\d+(\.\d+)? ?mm",
        r"\w+\w+\w+\w+!",
    ],
)
def test_a_usual_expression_is_taken_and_its_worst_text_takes_a_moment(pattern):
    assert checked_pattern(pattern) == pattern
    for text in ("a" * 64, "abcde" * 12, "liver 1 " * 8):
        clock = time.process_time()
        re.search(pattern, text)
        assert time.process_time() - clock < 1.5


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "(a+)+$",
            "(a|aa)+$",
            "(a*)*b",
            "(.*)*x",
            "(a?){30}a{30}",
            "(x+x+)+y",
            r"(\w+\s?)+$",
            "(?:.?){20}z",
        ),
        *("(?=(a+)+$)b", "(?>a+)+b", "((a{1,9}){1,9}){1,9}b", "(?:(?=ab)*){30}c(?:a|a|a)*b"),
    ],
)
def test_an_expression_that_could_hold_a_worker_is_refused(pattern):
    with pytest.raises(ValueError, match="could take too long"):
        checked_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(liver", "missing \\)"),
        ("*", "nothing to repeat"),
        ("a{99999999999}", "too large"),
        ("[", "unterminated"),
        ("(" * 900, "missing|recursion"),
        ("a" * 1001, "1000 are the most"),
        ("(?P<n>a)(?P<n>b)", "redefinition"),
    ],
)
def test_what_is_no_expression_is_refused_with_the_reason(pattern, why):
    with pytest.raises(ValueError, match=why):
        checked_pattern(pattern)


def test_only_the_64_characters_that_a_description_has_are_looked_at():
    assert matches("b", "a" * 63 + "b")
    assert not matches("b", "a" * 64 + "b")
    assert matches("", "anything")


@pytest.mark.parametrize("pattern", ["(liver", "(a+)+$"])
def test_lint_and_start_name_the_line_of_an_expression_that_is_refused(tmp_path, pattern):
    text = SMALL.replace("CT_AI\n", f"CT_AI\n        filter:\n          descriptions: '{pattern}'\n", 1)
    file = tmp_path / "config.yaml"
    file.write_text(text)
    (finding,) = examine(file)[1]
    assert (finding.line, finding.column) == (7, 11)
    assert finding.where == "dicom.scp.ae-titles[0].filter.descriptions"
