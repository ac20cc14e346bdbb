"""Whether an engine answers a model as ONNX Runtime does, tried with a window and remembered.

An engine that reads a model may still compute something else: an operator of another version, a rounding
mode, a size that only this model has. So nothing is answered by one that was not compared, with random
values and with a blank window.
"""

import hashlib
import json
import math
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from .settings import value
from .unfit import UnfitError

_VERDICTS = Path(sys.prefix).parent / "compared"
_SIZES = (64, 32, 16, 96, 128, 8)  # of axes that nothing is known of, in this order
_SEED = 1
_MOST = 200  # verdicts that are kept
_MOST_VOXELS = 2**26  # of the windows that both engines are asked about: a quarter of a GiB

# By precision of the engine: largest difference of a float by the largest value, and share of integers
# (labels) that may differ.
_FLOATS = {"f32": 1e-3, "bf16": 0.05}
_HALVES = 1e-2
_LABELS = {"f32": 1e-3, "bf16": 0.02}


def known_difference(engine, path, config):
    """Return what came of an earlier comparison: an empty text if the answers were the same, None of none."""
    try:
        verdict = json.loads((_VERDICTS / _key(engine, path, config)).read_bytes())
    except (OSError, ValueError):  # none, or one whose disk was full or lost its power
        return None
    return verdict.get("difference") if isinstance(verdict, dict) else None


def require_same_answers(engine, path, config):
    """Return if an engine answers a random window of the model as ONNX Runtime does.

    Raises
    ------
    UnfitError
        If it does not, or no window was found that ONNX Runtime answers, or that is small enough.
    """
    reason = known_difference(engine, path, config)
    if reason is None:
        reason = _difference(engine, path, config)
        _remember(_VERDICTS / _key(engine, path, config), reason)
    if reason:
        raise UnfitError(reason)


def warm_up(engine, config):
    """Answer a window of the size that the model describes: no request waits for what is made only once."""
    if value(config, "window_shape"):
        names = [tensor["name"] for tensor in config["output"]]
        window = next(_windows(config))
        engine.answer(names, {name: array[-1:] for name, array in window.items()})


def _key(engine, path, config):
    """Return a name for what decides: the files of the model, its configuration, the engine, this machine."""
    files = sorted(each for each in path.resolve().parent.iterdir() if each.is_file())
    facts = [engine.name, sys.version, json.dumps(config, sort_keys=True), _processor()]
    facts += [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _processor():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return sorted({line for line in lines if line.startswith(("model name", "flags"))})


def _remember(verdict, reason):
    try:
        verdict.parent.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=verdict.parent, delete=False) as file:
            json.dump({"difference": reason}, file)
        os.replace(file.name, verdict)
        for outdated in sorted(verdict.parent.iterdir(), key=os.path.getmtime)[:-_MOST]:
            outdated.unlink(missing_ok=True)
    except OSError:  # an installation that is only read compares each time
        pass


def _difference(engine, path, config):
    """Return in what way the answers differ; an empty text if they are the same."""
    from . import onnx_cpu

    reference = onnx_cpu.OnnxCpuEngine(path, config)
    names = [tensor["name"] for tensor in config["output"]]
    refusal = "it has no size"
    for arrays in _windows(config):
        try:
            wanted = reference.answer(names, arrays)
            break
        except Exception as error:  # the model does not take this size
            refusal = error
    else:
        return f"no window was found to compare it with: {refusal}"
    pairs = [(arrays, wanted)]
    if config["max_batch_size"] > 1:  # what else is in a batch must not matter
        last = {name: array[-1:] for name, array in arrays.items()}
        pairs.append((last, [each[-1:] for each in wanted]))
    found = next(filter(None, (_judge_all(engine, names, *pair) for pair in pairs)), "")
    return found or _judge_blank(engine, reference, names, pairs[-1][0])


def _judge_blank(engine, reference, names, arrays):
    """Return what is wrong with an answer to a window of one value, such as air beside the patient.

    A model that divides by the deviation of its window answers with what is not a number, which must not
    become one. How large the answer is, rounding alone decides, so only that is compared.
    """
    blank = {name: np.zeros_like(array) for name, array in arrays.items()}
    try:
        wanted = reference.answer(names, blank)
    except Exception:  # nothing to hold it against
        return ""
    try:
        found = engine.answer(names, blank)
    except Exception as error:
        return f"it did not answer: {error}"
    pairs = zip(names, found, wanted, strict=True)
    return "; ".join(
        f"{name} of a blank window is not finite elsewhere"
        for name, ours, theirs in pairs
        if theirs.dtype.kind == "f" and not np.array_equal(np.isfinite(ours), np.isfinite(theirs))
    )


def _judge_all(engine, names, arrays, wanted):
    try:
        found = engine.answer(names, arrays)
    except Exception as error:
        return f"it did not answer: {error}"
    pairs = zip(names, found, wanted, strict=True)
    return "; ".join(filter(None, (_judge(*pair, engine.precision) for pair in pairs)))


def _judge(name, found, wanted, precision):
    """Return what is wrong with an output; an empty text if nothing is."""
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return f"{name} is {found.dtype} {found.shape} instead of {wanted.dtype} {wanted.shape}"
    if wanted.dtype.kind != "f":
        share = np.count_nonzero(found != wanted) / max(found.size, 1)
        return "" if share <= _LABELS[precision] else f"{100 * share:.3g} % of {name} differ"
    if not np.array_equal(np.isfinite(found), np.isfinite(wanted)):
        return f"{name} is not finite elsewhere"
    finite = np.isfinite(wanted)
    found, true = found[finite].astype(np.float64), wanted[finite].astype(np.float64)
    apart = np.abs(found - true).max(initial=0) / max(np.abs(true).max(initial=0), 1e-6)
    most = max(_FLOATS[precision], _HALVES if wanted.dtype == np.float16 else 0)
    return "" if apart <= most else f"{name} differs by {apart:.2g} of its largest value"


def _windows(config):
    """Yield inputs to try: of the window that the model describes, else of likely sizes."""
    random = np.random.default_rng(_SEED)
    window = value(config, "window_shape") or value(config, "size")
    for sizes in [window] if window else [[size] * 3 for size in _SIZES]:
        yield {tensor["name"]: _random(random, tensor, config, sizes) for tensor in config["input"]}


def _random(random, tensor, config, sizes):
    """Return an input whose free axes have these sizes, the last of them last; a batch before them is 2."""
    dims = [int(size) for size in tensor["dims"]]
    batch = [min(2, config["max_batch_size"])] if config["max_batch_size"] else []
    free = [axis for axis, size in enumerate(dims) if size < 0]
    sizes = [2] * (len(free) - len(sizes)) + list(sizes)[max(0, len(sizes) - len(free)) :]
    for axis, size in zip(free, sizes, strict=True):
        dims[axis] = size
    if math.prod([*batch, *dims]) > _MOST_VOXELS:
        raise UnfitError(f"a window of {dims} is too large to be compared by")
    kind = np.float16 if tensor["data_type"] == "TYPE_FP16" else np.float32
    return random.standard_normal([*batch, *dims], np.float32).astype(kind, copy=False)
