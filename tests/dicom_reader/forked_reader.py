"""A process that has imported the reader and runs it in a child of its own for every line it is sent.

One line of JSON in: arguments, user (number or null), largest file (bytes or null), seconds. One line out:
exit code (-9 if it took longer and was killed), seconds, highest resident size in MiB (what was imported
included), and what went to stderr. A child is refused more than 1 GiB beyond what was imported.
"""

import json
import os
import resource
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import pydicom.data  # what another user may not be allowed to import
import pydicom.pixels  # noqa: F401

from dicom_reader.__main__ import DicomReader
from stages import main

MOST_BYTES = 1 << 30


def limit_memory():
    lines = Path("/proc/self/status").read_text().splitlines()
    held = next(int(line.split()[1]) for line in lines if line.startswith("VmData")) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (held + MOST_BYTES, held + MOST_BYTES))


def run(arguments, user, largest_file, log):
    os.dup2(log, 2)
    os.dup2(log, 1)
    limit_memory()
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
        killer = threading.Timer(request["seconds"], os.kill, (child, signal.SIGKILL))
        killer.start()
        _, status, usage = os.wait4(child, 0)
        killer.cancel()
        killer.join()
        seconds = time.monotonic() - clock
        log.seek(0)
        text = log.read().decode("utf-8", "replace")
    code = os.waitstatus_to_exitcode(status)
    return {"code": code, "seconds": seconds, "mib": usage.ru_maxrss / 1024, "log": text}


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()
