"""A process that has imported the reader and runs it in a child of its own for every line it is sent.

One line of JSON in: arguments, user (number or null), largest file (bytes or null). One line out: exit
code, seconds, highest resident size in MiB (what was imported included), and what went to stderr.
"""

import json
import os
import resource
import sys
import tempfile
import time

import pydicom.data  # what another user may not be allowed to import
import pydicom.pixels  # noqa: F401

from dicom_reader.__main__ import DicomReader
from stages import main


def run(arguments, user, largest_file, log):
    os.dup2(log, 2)
    os.dup2(log, 1)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    if user is not None:
        os.setuid(user)
    return main(DicomReader(), arguments, {}, name="dicom-reader")


def answer(request):
    with tempfile.TemporaryFile() as log:
        clock = time.monotonic()
        child = os.fork()
        if child == 0:
            code = 99  # an exception that nobody foresaw
            try:
                code = run(request["arguments"], request["user"], request["largest_file"], log.fileno())
            finally:
                os._exit(code)
        _, status, usage = os.wait4(child, 0)
        seconds = time.monotonic() - clock
        log.seek(0)
        text = log.read().decode("utf-8", "replace")
    code = os.waitstatus_to_exitcode(status)
    return {"code": code, "seconds": seconds, "mib": usage.ru_maxrss / 1024, "log": text}


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()
