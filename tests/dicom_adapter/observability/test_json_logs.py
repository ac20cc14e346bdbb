"""What a process says after `json_logs.configure`: one JSON object a line, and nobody's name."""

import json
import os
import subprocess
import sys
import textwrap
import time

from tests.dicom_adapter.workflows import ROOT

HEAD = """
import logging, os, sys, threading, time, warnings
from dicom_adapter.observability import json_logs
json_logs.configure()
logger = logging.getLogger("test")
"""
UID = "1.2.840.113619.2.55.3.604688119.971.1530.5"


def said_by(body, code=0):
    """Return what a script of these lines has said."""
    done = subprocess.run(
        [sys.executable, "-c", HEAD + textwrap.dedent(body)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert all(len(line.encode()) < 16384 for line in done.stderr.splitlines())
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_whoever_says_something_says_it_in_one_line_of_json_without_a_whole_uid():
    told = said_by(f"""
        print('sent {UID}')
        sys.stderr.write('sent {UID}\\n')
        warnings.warn('sent {UID}')
        logger.warning('sent %s', '{UID}')
        logging.captureWarnings(True)
        warnings.warn('sent {UID} again')
    """)
    assert len(told) == 5
    for line in told:
        assert "sent 1.2.840…530.5" in line["message"]
        assert {"time", "level", "logger", "message"} <= line.keys()


def test_an_error_that_nobody_catches_is_one_line_with_its_traceback():
    told = said_by(
        """
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
        class C:
            def __del__(self): raise ValueError('x')
        C()
        try:
            1 / 0
        except ArithmeticError:
            logger.exception('failed')
        raise ValueError('no\\x1b[2J')
        """,
        code=1,
    )
    assert len(told) == 4
    for line in told:
        assert "Traceback (most recent call last):\n" in line["traceback"]
        assert "\x1b" not in line["traceback"]


PYDICOM = """
import pydicom.charset
from pydicom import Dataset, config, valuerep
NAME, UID = 'MUELLER^ANNA', '1.2.840.113619.2.55.3.604688119.971.1530.5.0001'
def try_(function, *arguments):
    try:
        function(*arguments)
    except Exception:
        logger.exception('failed')
"""
OF_VALUES = (
    "valuerep.validate_value, 'PN', f'{NAME}=' * 9, config.WARN",
    "valuerep.validate_value, 'DA', '07.03.1950', config.WARN",
    "valuerep.validate_value, 'UI', UID, config.WARN",
    "valuerep.validate_value, 'IS', NAME, config.RAISE",
    "pydicom.charset.convert_encodings, ['ISO_IR 100', NAME]",
    "pydicom.charset.convert_encodings, ['ISO_IR 192', NAME, 'ISO 2022 IR 87']",
    "valuerep.DSfloat, NAME",
)


def test_what_pydicom_says_of_a_value_names_nobody():
    told = said_by(PYDICOM + "\n".join(f"try_({each})" for each in OF_VALUES))
    assert len(told) >= len(OF_VALUES)
    for secret in ("MUELLER", "ANNA", "1950", UID):
        assert secret not in json.dumps(told)


def test_a_very_long_line_is_cut_in_its_middle():
    (line,) = said_by("logger.error('begin ' + '\\x00ü' * 100_000 + ' end')")
    assert line["message"].startswith("begin ")
    assert line["message"].endswith(" end")


def test_a_message_that_does_not_go_with_its_arguments_is_told():
    (line,) = said_by("logger.error('%d and %d', 'x')")
    assert line["message"] == "a record of the log could not be written"


def test_a_log_that_nobody_reads_stops_nobody_and_how_much_was_left_out_is_told():
    body = "for n in range(5000): logger.warning('%s', 'x' * 100)\nopen(sys.argv[1], 'w')\nsys.stdin.read()\n"
    body += "logger.warning('read again')"
    reading, writing = os.pipe()
    marker = f"/tmp/{os.getpid()}.written"
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD + body, marker],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stderr=writing,
    )
    os.close(writing)
    end = time.monotonic() + 20
    while not os.path.exists(marker):
        assert time.monotonic() < end, "it waits for somebody to read its log"
        time.sleep(0.01)
    os.unlink(marker)
    os.set_blocking(reading, False)
    begun = os.read(reading, 1 << 20)
    os.set_blocking(reading, True)
    process.stdin.close()
    with open(reading, encoding="utf-8") as log:
        lines = [json.loads(line) for line in (begun.decode() + log.read()).splitlines()]
    assert process.wait(10) == 0
    assert lines[-1]["message"] == "read again"
    left_out = int(lines[-2]["message"].split()[0])
    assert left_out + len(lines) - 2 == 5000


def test_a_log_whose_reader_is_gone_stops_nobody():
    reading, writing = os.pipe()
    os.close(reading)
    body = "for n in range(100): logger.warning('x'); print('y')\nos._exit(7)"
    done = subprocess.run(
        [sys.executable, "-c", HEAD + body], env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=writing
    )
    os.close(writing)
    assert done.returncode == 7


def test_without_standard_streams_no_other_file_gets_the_log(tmp_path):
    file = tmp_path / "database"
    body = f"opened = open({str(file)!r}, 'w'); logger.error('x'); print('y'); os._exit(opened.fileno() < 3)"
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", HEAD + body],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, file.read_text()) == (0, "")


def test_also_why_an_adapter_does_not_begin_is_told_in_json(tmp_path):
    (tmp_path / "dicom-server-config.yaml").write_text("dicom:\n  scp: {port: a}\n")
    done = subprocess.run(
        [sys.executable, "-m", "clara_wf", "adapter", "--config", str(tmp_path / "dicom-server-config.yaml")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines
    assert {line["level"] for line in lines} == {"ERROR"}
