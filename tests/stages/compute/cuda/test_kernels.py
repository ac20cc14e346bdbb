"""How kernels are started: enough threads, each source compiled once. CuPy is stood in for."""

import sys
from types import SimpleNamespace

import pytest

from stages.compute.cuda import kernels


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Return a source, and what is compiled and started of it."""
    compiled, begun = [], []

    def module(code, options):
        compiled.append(code)
        return SimpleNamespace(get_function=lambda name: lambda *given: begun.append((name, *given)))

    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(RawModule=module))
    source = tmp_path / "some.cu"
    source.write_text("text")
    yield source, compiled, begun
    kernels._kernel.cache_clear()
    kernels._module.cache_clear()


@pytest.mark.parametrize(("threads", "blocks"), [(1, 1), (256, 1), (257, 2)])
def test_there_are_as_many_threads_as_are_needed(started, threads, blocks):
    source, _, begun = started
    kernels.launch(source, "cut", threads, [1, 2])
    assert begun == [("cut", (blocks,), (256,), (1, 2))]


def test_nothing_is_started_for_nothing(started):
    source, compiled, begun = started
    kernels.launch(source, "cut", 0, [])
    assert (compiled, begun) == ([], [])


def test_a_source_is_compiled_once_for_all_its_kernels(started):
    source, compiled, begun = started
    for name in ("cut", "add", "cut"):
        kernels.launch(source, name, 1, [])
    assert compiled == ["text"]
    assert [name for name, *_ in begun] == ["cut", "add", "cut"]
