"""A stage for tests: one result an instance, with a UID that follows from the instance's.

Its argument is a folder that steers it: ``sleep`` holds seconds, ``exit`` an exit code and how often it
counts, ``ran`` gets a line for every run; with ``deaf`` it does not end when it is asked to.
"""

import os
import signal
import sys
import time
from pathlib import Path

from pydicom import dcmread

from stages import Job, main
from stages.errors import InferenceError, InputError, StageError, StageTimeoutError

KINDS = {1: StageError, 3: InputError, 4: StageTimeoutError, 6: InferenceError}


def execute(job: Job) -> None:
    steering = Path(sys.argv[1])
    with (steering / "ran").open("a") as file:
        file.write(f"{job.output_dir}\n")
    if (steering / "deaf").exists():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if (steering / "sleep").exists():
        time.sleep(float((steering / "sleep").read_text()))
    asked = (steering / "exit").read_text() if (steering / "exit").exists() else "0 0"
    code, times = map(int, asked.split())
    if times:
        (steering / "exit").write_text(f"{code} {times - 1}")
        if code < 0:
            os.kill(os.getpid(), -code)
        raise KINDS[code](f"as asked, of {sorted(os.listdir(job.input_dir))[0]}")
    for path in sorted(p for p in job.input_dir.rglob("*") if p.is_file()):
        ds = dcmread(path)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{ds.SOPInstanceUID}.77"
        ds.SeriesInstanceUID = f"{ds.SeriesInstanceUID}.77"
        ds.save_as(job.output_dir / f"{ds.SOPInstanceUID}.dcm", enforce_file_format=True)


if __name__ == "__main__":
    sys.exit(main(execute, [], os.environ, name="stamp"))
