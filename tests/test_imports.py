"""The arrows between the packages, read from their imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import stages

REPOSITORY = Path(stages.__file__).parents[1]
STAGE_PACKAGES = {"dicom_reader", "ai_livertumor", "dicom_writer"}
COMMANDS = {"clara_wf", "dicom_adapter"}
PROJECT = {"stages", "dicom_files", "phantoms", "training"} | STAGE_PACKAGES | COMMANDS
DICOM = {"pydicom", "highdicom", "pynetdicom", "dicomsdl", "gdcm"}
FOREIGN = (
    REPOSITORY / "clara_wf" / "model_server" / "triton_backends"
)  # runs inside the server's own interpreter

FORBIDDEN = {
    "stages": (PROJECT - {"stages"}) | DICOM,
    "dicom_files": PROJECT - {"stages", "dicom_files"},
    "ai_livertumor": PROJECT - {"stages", "ai_livertumor"},
    **{stage: PROJECT - {"stages", "dicom_files", stage} for stage in ("dicom_reader", "dicom_writer")},
    **{command: STAGE_PACKAGES for command in COMMANDS},
    "phantoms": PROJECT - {"phantoms"},
}


def modules_of(package):
    return sorted(p for p in (REPOSITORY / package).rglob("*.py") if not p.is_relative_to(FOREIGN))


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported(nodes, package):
    """Return the top-level names that statements import; a relative import is one of the package itself."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(package if node.level else node.module)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
            "import_module",
            "__import__",
        ):
            names |= {arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    return {name.partition(".")[0] for name in names}


def at_module_level(tree):
    """Return the nodes that run when a module is imported, without those for the type checker alone."""
    nodes = []
    pending = list(tree.body)
    while pending:
        node = pending.pop()
        nodes.append(node)
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if not is_function and not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            pending.extend(ast.iter_child_nodes(node))
    return nodes


ALL_MODULES = [(package, path) for package in sorted(PROJECT) for path in modules_of(package)]


def by_name(value):
    return str(value.relative_to(REPOSITORY)) if isinstance(value, Path) else ""


def test_packages_are_found():
    assert {"driver.py", "locks.py", "triton.py"} <= {path.name for path in modules_of("stages")}
    assert {path.name for path in modules_of("dicom_writer")} >= {"__main__.py", "segmentation.py"}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_package_imports_only_what_it_may(package):
    found = {
        path.relative_to(REPOSITORY).as_posix(): wrong
        for path in modules_of(package)
        if (wrong := imported(ast.walk(tree_of(path)), package) & FORBIDDEN[package])
    }
    assert found == {}


def test_toolkit_takes_cupy_the_inference_client_and_scipy_only_where_they_are_used():
    found = {
        path.name: wrong
        for path in modules_of("stages")
        if (
            wrong := imported(at_module_level(tree_of(path)), "stages")
            & {"cupy", "cupyx", "tritonclient", "scipy"}
        )
    }
    assert found == {}


def test_importing_the_toolkit_loads_nothing_heavy():
    script = "import sys, stages; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY
    ).stdout.split()
    assert "stages" in loaded
    assert {"cupy", "tritonclient", "grpc", "pydicom", "highdicom", "scipy", "nibabel"} & set(loaded) == set()


def is_entry_point(path):
    return path.name == "__main__.py" or path == REPOSITORY / "clara_wf" / "cli.py"


def configures_logs_for_entry_points(path):
    return path == REPOSITORY / "stages" / "driver.py"


def entry_point_matters(tree):
    """Return what only entry points do, as written: the environment, the exit, the log.

    What a file does when it is itself the program is an entry point, whatever its name.
    """
    as_program = [
        node for node in tree.body if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)
    ]
    texts = set()
    for node in ast.walk(ast.Module([node for node in tree.body if node not in as_program], [])):
        if isinstance(node, ast.ImportFrom) and node.module in ("os", "sys", "stages.runtime.logs"):
            texts |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute | ast.Name):
            texts.add(ast.unparse(node))
    return texts & {
        "os.environ",
        "os.getenv",
        "os.putenv",
        "sys.exit",
        "SystemExit",
        "exit",
        "quit",
        "logs.configure",
        "stages.runtime.logs.configure",
    }


@pytest.mark.parametrize(("package", "path"), ALL_MODULES, ids=by_name)
def test_only_entry_points_read_the_environment_exit_or_configure_the_log(package, path):
    allowed = {"logs.configure"} if configures_logs_for_entry_points(path) else set()
    if not is_entry_point(path):
        assert entry_point_matters(tree_of(path)) - allowed == set()


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import stages.lifecycle.locks", {"stages"}),
        ("from dicom_reader.slices.stack import sort_slices", {"dicom_reader"}),
        ("def f():\n    import cupy", {"cupy"}),
        ("from . import model", {"stages"}),
        ("importlib.import_module('pydicom.uid')", {"pydicom"}),
    ],
)
def test_imports_are_seen_in_every_form(code, names):
    assert imported(ast.walk(ast.parse(code)), "stages") == names


def test_import_inside_a_function_is_not_at_module_level():
    code = "import json\nclass C:\n import os\n def f(self):\n  import cupy\nif TYPE_CHECKING:\n import scipy"
    assert imported(at_module_level(ast.parse(code)), "stages") == {"json", "os"}


@pytest.mark.parametrize(
    "code",
    [
        "os.environ['A']",
        "x = os.getenv('A')",
        "from os import environ",
        "sys.exit(1)",
        "raise SystemExit",
        "exit()",
    ],
)
def test_what_belongs_to_entry_points_is_seen_in_every_form(code):
    assert entry_point_matters(ast.parse(code))
    assert not entry_point_matters(ast.parse(f"if __name__ == '__main__':\n    {code}"))
