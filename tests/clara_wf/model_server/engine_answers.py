"""Run in the model server's own Python: what engine is chosen for ONNX files, and what it answers.

``engine_answers.py BACKEND JOBS``: JOBS is a JSON list of objects with ``path``, ``config``, ``environ`` and
``inputs`` (files of arrays); each answer is written beside its input. Printed is a JSON list of results.
"""

import contextlib
import io
import json
import sys
import types
from pathlib import Path

import numpy as np

sys.path.insert(0, sys.argv[1])
sys.modules["triton_python_backend_utils"] = types.ModuleType("triton_python_backend_utils")

import engines  # noqa: E402 - which lies in the folder that is named above
from engines import comparison  # noqa: E402


def result_of(job):
    log = io.StringIO()
    try:
        with contextlib.redirect_stderr(log):
            engine = engines.choose(Path(job["path"]), job["config"], job["environ"])
    except Exception as error:
        return {"error": str(error), "log": log.getvalue()}
    answers = [answer_of(engine, np.load(name)) for name in job["inputs"]]  # all held at once
    for name, answer in zip(job["inputs"], answers, strict=True):
        np.save(f"{name}.answer.npy", answer)
    return {"name": engine.name, "log": log.getvalue()}


def answer_of(engine, array):
    """Return the answer as a request gets it; arrays stand for Triton's tensors here."""
    module = sys.modules[type(engine).__module__]
    module.as_array, module.as_tensor = lambda tensor: tensor, lambda name, array: array
    array.flags.writeable = False  # as Triton's are
    (given,), (wanted,) = engine.inputs, engine.outputs
    return engine.run([wanted], {given: array})[0]


if __name__ == "__main__":
    jobs = json.loads(Path(sys.argv[2]).read_text())
    comparison._VERDICTS = Path(sys.argv[2]).with_name("compared")
    sys.stdout.write(json.dumps([result_of(job) for job in jobs]))
