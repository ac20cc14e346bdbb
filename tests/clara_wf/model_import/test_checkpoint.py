"""Checkpoints are read as data: tensors with their strides; nothing repeats, runs or is missing unnoticed."""

import io
import os
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest

from clara_wf.model_import.checkpoint import Checkpoint, UntrustedCheckpointError
from stages.errors import InputError


class Saved:
    """A tensor that pickle writes as torch.save does: a call with its storage, offset, shape and strides."""

    def __init__(self, key, kind, length, offset, shape, strides):
        self.storage = Storage(key, kind, length)
        self.rest = (offset, shape, strides, False, {})

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, (self.storage, *self.rest)


class Storage:
    def __init__(self, *identity):
        self.identity = identity


@pytest.fixture
def save(tmp_path, monkeypatch):
    """Return what writes a checkpoint without PyTorch, whose names stand-ins bear meanwhile."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def rebuild(*_):
        raise AssertionError("nobody calls it")

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = rebuild
    for kind in ("FloatStorage", "BFloat16Storage"):
        setattr(torch, kind, type(kind, (), {"__module__": "torch"}))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            if not isinstance(thing, Storage):
                return None
            key, kind, length = thing.identity
            return ("storage", getattr(torch, kind), key, "cpu", length)

    def write(content, **storages):
        text = io.BytesIO()
        Pickler(text, protocol=2).dump(content)
        path = tmp_path / "checkpoint.pth"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", text.getvalue())
            for key, data in storages.items():
                archive.writestr(f"archive/data/{key}", data)
        return path

    return write


def test_a_tensor_has_its_shape_and_strides_in_its_storage(save):
    data = np.arange(12, dtype="<f4")
    path = save({"weight": Saved("w", "FloatStorage", 12, 1, (3, 2), (1, 4))}, w=data.tobytes())
    with Checkpoint(path) as checkpoint:
        read = checkpoint.array(checkpoint.content["weight"])
    assert read.tolist() == [[1, 5], [2, 6], [3, 7]]


def test_numbers_of_bfloat16_are_the_upper_halves_of_single_ones(save):
    halves = (np.array([1.5, -2.0, 0.0], "<f4").view("<u4") >> 16).astype("<u2")
    path = save(Saved("w", "BFloat16Storage", 3, 0, (3,), (1,)), w=halves.tobytes())
    with Checkpoint(path) as checkpoint:
        assert checkpoint.array(checkpoint.content).tolist() == [1.5, -2.0, 0.0]


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (13,), (1,)),
        (1, (3, 4), (4, 1)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (10**6, 10**6), (0, 0)),  # two numbers that would fill all memory
    ],
)
def test_a_tensor_beyond_its_storage_is_refused_before_it_takes_memory(save, offset, shape, strides):
    path = save(Saved("w", "FloatStorage", 12, offset, shape, strides), w=bytes(48))
    with Checkpoint(path) as checkpoint, pytest.raises(InputError, match="a tensor is not whole"):
        checkpoint.array(checkpoint.content)


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("made-by-a-checkpoint",)


def test_a_program_is_named_and_runs_only_where_it_is_trusted(save, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = save({"weights": Hostile()})
    with pytest.raises(UntrustedCheckpointError, match=r"would run (os|posix)\.mkdir.*--trust-code"):
        Checkpoint(path)
    assert not (tmp_path / "made-by-a-checkpoint").exists()
    with Checkpoint(path, trust_code=True):
        assert (tmp_path / "made-by-a-checkpoint").is_dir()
