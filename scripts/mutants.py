"""Change one thing at a time in the modules that decide most; print what their tests do not notice.

``mutants.py [MODULE...] [--every N] [--jobs N]``. A change is another comparison, a boundary moved by
one, ``and`` for ``or``, a condition turned round, a number one larger, or a function that returns nothing.
It is made in a copy of the checkout below ``build/mutants``; the tests of the module run there until the
first failure. A change is killed by a test that fails or takes too long.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parent.parent
COPIES = ROOT / "build" / "mutants"
COPIED = (
    *("stages", "dicom_files", "dicom_reader", "ai_livertumor", "dicom_writer", "clara_wf", "dicom_adapter"),
    *("phantoms", "tests", "pyproject.toml", "models", "clara-platform", "clara-reference-workflows"),
    *("docs", "scripts"),
)
LONGER_S, LONGER = 30.0, 5.0
"""A change is killed when its tests take this much longer than without it."""

TESTS = {
    "stages/lifecycle/locks.py": "tests/stages/lifecycle/test_locks.py",
    "stages/lifecycle/validity.py": "tests/stages/lifecycle",
    "stages/runtime/file_lock.py": "tests/stages/runtime/test_file_lock.py",
    "stages/volume/geometry.py": "tests/stages/volume/test_geometry.py",
    "dicom_reader/slices/duplicates.py": "tests/dicom_reader/slices",
    "dicom_reader/slices/slice.py": "tests/dicom_reader/slices",
    "dicom_reader/slices/spacing.py": "tests/dicom_reader/slices",
    "dicom_reader/slices/stack.py": "tests/dicom_reader/slices",
    "dicom_writer/seg/verify.py": "tests/dicom_writer/seg tests/dicom_writer/test_wrong_writers.py",
    "dicom_writer/rtstruct/verify.py": "tests/dicom_writer/rtstruct tests/dicom_writer/test_wrong_writers.py",
    "dicom_adapter/storage/paths.py": "tests/dicom_adapter/storage/test_paths.py",
    "dicom_adapter/storage/study_locks.py": "tests/dicom_adapter/storage/test_study_locks.py",
    "dicom_adapter/storage/disk_space.py": "tests/dicom_adapter/storage/test_disk_space.py",
    "dicom_adapter/database/integrity.py": "tests/dicom_adapter/database",
    "dicom_adapter/database/set_aside.py": "tests/dicom_adapter/database",
    "clara_wf/chart/text.py": "tests/clara_wf/chart",
}
"""The modules, and the tests that are theirs."""

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
}


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A module with one change."""

    line: int
    change: str
    text: str


def mutants_of(text: str) -> Iterator[Mutant]:
    """Yield a module's text with each change, in the order of its lines."""
    tree = ast.parse(text)
    hidden = _not_changed(tree)
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.stmt | ast.expr) and node not in hidden]
    for node in sorted(nodes, key=lambda each: (each.lineno, each.col_offset)):
        for old, new in _changes(node):
            before, after = ast.unparse(old), ast.unparse(new)
            yield Mutant(
                line=old.lineno, change=f"{before[:70]}  ->  {after[:70]}", text=_spliced(text, old, after)
            )


def _spliced(text: str, old: ast.expr, new: str) -> str:
    """Return a text with an expression replaced."""
    lines = text.encode().splitlines(keepends=True)
    assert old.end_lineno is not None
    assert old.end_col_offset is not None
    head = b"".join(lines[: old.lineno - 1]) + lines[old.lineno - 1][: old.col_offset]
    tail = lines[old.end_lineno - 1][old.end_col_offset :] + b"".join(lines[old.end_lineno :])
    return (head + f"({new})".encode() + tail).decode()


def _not_changed(tree: ast.AST) -> set[ast.AST]:
    """Return the nodes of what people read: texts, annotations, what is raised and logged."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            arguments = [*node.args.args, *node.args.kwonlyargs]
            tops: list[ast.AST | None] = [node.returns, *(each.annotation for each in arguments)]
        elif isinstance(node, ast.AnnAssign):
            tops = [node.annotation]
        else:
            tops = [node] if _is_text(node) else []
        found.update(each for top in tops if top is not None for each in ast.walk(top))
    return found


def _is_text(node: ast.AST) -> bool:
    logs = isinstance(node, ast.Call) and ast.unparse(node.func).startswith("logger.")
    return logs or isinstance(node, ast.JoinedStr | ast.Raise)


def _changes(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Yield expressions of a node, with what takes their place."""
    if isinstance(node, ast.Compare):
        for n, operator in enumerate(node.ops):
            for other in COMPARISONS[type(operator)]:
                yield (
                    node,
                    ast.Compare(node.left, [*node.ops[:n], other(), *node.ops[n + 1 :]], node.comparators),
                )
    elif isinstance(node, ast.BoolOp):
        yield node, ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node, node.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        yield node, ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        other_value = not node.value if isinstance(node.value, bool) else node.value + 1
        yield node, ast.Constant(other_value)
    elif isinstance(node, ast.If | ast.While) and isinstance(node.test, ast.Name | ast.Attribute | ast.Call):
        yield node.test, ast.UnaryOp(ast.Not(), node.test)
    elif isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Constant):
        yield node.value, ast.Constant(None)


def copy_of(number: int) -> Path:
    """Return a copy of the checkout for one job."""
    folder = COPIES / str(number)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in COPIED:
        place = ROOT / name
        if place.is_dir():
            shutil.copytree(place, folder / name, symlinks=True)
        else:
            shutil.copy2(place, folder / name)
    return folder


def run_tests(folder: Path, module: str, timeout_s: float | None = None) -> bool:
    """Return whether all tests of a module pass."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *TESTS[module].split()]
    environ = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    environ["CLARA_TEST_DATA"] = os.environ.get("CLARA_TEST_DATA") or str(ROOT.parent / "shared/data")
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return process.wait(timeout_s) == 0
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
        return False


def main() -> int:
    """Print the survivors, and a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", default=list(TESTS), metavar="MODULE")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="try every Nth change only")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N")
    given = parser.parse_args()
    copies: SimpleQueue[Path] = SimpleQueue()
    for number in range(given.jobs):
        copies.put(copy_of(number))
    rows = ["| module | changes | killed | survived |", "|---|--:|--:|--:|"]
    for module in given.modules:
        tried, survived = try_module(module, copies, given.jobs, given.every)
        rows.append(f"| `{module}` | {tried} | {tried - survived} | {survived} |")
        print(rows[-1], flush=True)  # noqa: T201
    print("\n" + "\n".join(rows))  # noqa: T201
    return 0


def try_module(module: str, copies: SimpleQueue[Path], jobs: int, every: int) -> tuple[int, int]:
    """Print the changes of a module that survive; return how many were tried and how many did."""
    text = (ROOT / module).read_text(encoding="utf-8")
    folder, begun = copies.get(), time.monotonic()
    if not run_tests(folder, module):
        raise SystemExit(f"{module}: its tests fail as it is; run {TESTS[module]}")
    longest = LONGER * (time.monotonic() - begun) + LONGER_S
    copies.put(folder)

    def survives(mutant: Mutant) -> bool:
        folder = copies.get()
        try:
            (folder / module).write_text(mutant.text, encoding="utf-8")
            _make_newer(folder / module)
            return run_tests(folder, module, longest)
        finally:
            shutil.copy2(ROOT / module, folder / module)
            copies.put(folder)

    mutants = list(mutants_of(text))[::every]
    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(survives, mutants))
    for mutant, lives in zip(mutants, results, strict=True):
        if lives:
            print(f"{module}:{mutant.line}: {mutant.change}", flush=True)  # noqa: T201
    return len(mutants), sum(results)


_times = iter(range(int(time.time()) + 10_000, int(time.time()) + 10_000_000))


def _make_newer(path: Path) -> None:
    """Give a file a time that no compiled form of it has."""
    clock = next(_times)
    os.utime(path, (clock, clock))


if __name__ == "__main__":
    sys.exit(main())
