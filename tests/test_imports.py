"""The arrows between the packages and between the rooms of each, read from their imports.

The two tables below are the map of the project: packages top to bottom, and in each package its rooms top to
bottom. What stands lower may import what stands higher, never the other way. Imports inside functions and
those for the type checker alone count like all others. ``pytest tests/test_imports.py -k map -s`` prints it.
"""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import stages

REPOSITORY = Path(stages.__file__).parents[1]
PACKAGES = {
    "stages": (),
    "dicom_files": ("stages",),
    "dicom_reader": ("stages", "dicom_files"),
    "ai_livertumor": ("stages",),
    "dicom_writer": ("stages", "dicom_files"),
    "phantoms": (),
    "clara_wf": ("stages", "dicom_files", "phantoms"),
    "dicom_adapter": ("stages", "dicom_files", "clara_wf"),
    "training": ("stages", "phantoms", "clara_wf"),
}
"""What each package may import of the project."""

ROOMS: dict[str, tuple[str, ...]] = {
    "stages": (
        "errors",
        "arrays",
        "runtime",
        "volume",
        "resident",
        "lifecycle",
        "compute",
        "memory",
        "triton",
        "model",
        "windows",
        "segmentation",
        "pod",
    ),
    "dicom_files": (
        "uids",
        "codestreams",
        "character_sets",
        "pydicom_warnings",
        "damage",
        "elements",
        "element_stream",
        "encoding",
        "file_meta",
        "deflate",
        "frames",
        "dataset",
        "header",
        "header_stream",
    ),
    "dicom_reader": (
        "files",
        "pixels",
        "slices",
        "resample",
        "series",
        "selection",
        "explain",
        "arguments",
        "read",
    ),
    "dicom_writer": (
        "encoding",
        "source",
        "mask",
        "request",
        "wording",
        "dicom",
        "checks",
        "pictures",
        "seg",
        "rtstruct",
        "series",
        "sr",
        "capture",
        "pdf",
        "kinds",
        "write",
    ),
    "clara_wf": (
        "text",
        "files",
        "yaml",
        "workspace",
        "model_server",
        "models",
        "model_import",
        "definitions",
        "payload",
        "chart",
        "residents",
        "engines",
        "report",
        "publish",
        "run",
        "commands",
        "cli",
    ),
    "dicom_adapter": (
        "private_file",
        "supervision",
        "config",
        "observability",
        "database",
        "storage",
        "context",
        "dimse",
        "scp",
        "studies",
        "jobs",
        "delivery",
        "retrieval",
        "status",
        "rebuild",
        "live_config",
        "components",
        "service",
        "cli",
    ),
}
"""The rooms of a package (folders, and modules that stand alone), top to bottom; each imports those above it.

What a package offers (``__init__``) and its entry point (``__main__``) stand below all of its rooms.
"""

MOST_MODULES = 15
DICOM = {"pydicom", "highdicom", "pynetdicom", "dicomsdl", "gdcm"}
FORBIDDEN = {
    package: set(PACKAGES) - {package, *above} | (DICOM if package == "stages" else set())
    for package, above in PACKAGES.items()
}
FOREIGN = {"triton_backends", "windows_model"}  # run inside the model server's own interpreter


def modules_of(package):
    return sorted(
        path for path in (REPOSITORY / package).rglob("*.py") if FOREIGN.isdisjoint(path.parent.parts)
    )


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path):
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for package in PACKAGES for path in modules_of(package)}


def modules_imported(name):
    """Return the project's modules that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(tree_of(MODULES[name])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import; write the module's whole name"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
    return (found & set(MODULES)) - {name}


@functools.cache
def arrows():
    """Return each module with the modules of the project that it imports."""
    return {name: modules_imported(name) for name in MODULES}


def room_of(name):
    """Return the folder or module below its package that a module lies in."""
    _, _, rest = name.partition(".")
    return rest.partition(".")[0] or "__init__"


def rooms_of(package):
    return (*ROOMS.get(package, ()), "__init__", "__main__")


def map_of(package):
    """Return the rooms of a package, each with those of the same package that it imports."""
    lines = []
    for room in ROOMS[package]:
        found = {
            room_of(other)
            for name in MODULES
            if name.startswith(f"{package}.") and room_of(name) == room
            for other in arrows()[name]
            if other.startswith(f"{package}.")
        } - {room}
        drawn = ", ".join(sorted(found, key=ROOMS[package].index)) or "no other"
        lines.append(f"  {room}: {drawn}")
    return "\n".join(lines)


@pytest.mark.parametrize("package", ROOMS)
def test_map_is_whole(package):
    print(f"\n{package} (above it: {', '.join(PACKAGES[package]) or 'nothing'})\n{map_of(package)}")  # noqa: T201
    there = {room_of(name) for name in MODULES if name.startswith(f"{package}.")} - {"__init__", "__main__"}
    assert there == set(ROOMS[package])


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_only_rooms_above_them(package):
    order = rooms_of(package)
    wrong = [
        f"{name} imports {other}"
        for name in MODULES
        if name.partition(".")[0] == package
        for other in sorted(arrows()[name])
        if other.partition(".")[0] == package and order.index(room_of(other)) > order.index(room_of(name))
    ]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle():
    left = dict(arrows())
    while free := {
        name
        for name, imports in left.items()
        if not imports & set(left) or not any(name in others for others in left.values())
    }:
        left = {name: imports - free for name, imports in left.items() if name not in free}
    assert left == {}


def test_no_folder_has_more_modules_than_can_be_looked_over():
    folders = {}
    for path in MODULES.values():
        if path.name != "__init__.py":
            folders.setdefault(path.parent.relative_to(REPOSITORY).as_posix(), []).append(path.name)
    assert {folder: len(names) for folder, names in folders.items() if len(names) > MOST_MODULES} == {}


def test_every_room_says_what_it_is_for():
    silent = [
        name
        for name, path in MODULES.items()
        if path.name == "__init__.py" and not ast.get_docstring(tree_of(path))
    ]
    assert silent == []


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


ALL_MODULES = [(package, path) for package in sorted(PACKAGES) for path in modules_of(package)]


def by_name(value):
    return str(value.relative_to(REPOSITORY)) if isinstance(value, Path) else ""


def test_packages_are_found():
    assert {"driver.py", "locks.py", "client.py"} <= {path.name for path in modules_of("stages")}
    assert {path.name for path in modules_of("dicom_writer")} >= {"__main__.py", "segmentation.py"}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_package_imports_only_what_it_may(package):
    found = {
        path.relative_to(REPOSITORY).as_posix(): wrong
        for path in modules_of(package)
        if (wrong := imported(ast.walk(tree_of(path)), package) & FORBIDDEN[package])
    }
    assert found == {}


def test_toolkit_takes_cupy_simpleitk_and_the_inference_client_only_where_they_are_used():
    found = {
        path.name: wrong
        for path in modules_of("stages")
        if (
            wrong := imported(at_module_level(tree_of(path)), "stages")
            & {"cupy", "cupyx", "tritonclient", "scipy", "SimpleITK"}
        )
    }
    assert found == {}


def test_importing_the_toolkit_loads_nothing_heavy():
    script = "import sys, stages; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY
    ).stdout.split()
    assert "stages" in loaded
    heavy = {"cupy", "tritonclient", "grpc", "pydicom", "highdicom", "scipy", "SimpleITK"}
    assert heavy & set(loaded) == set()


def is_entry_point(path):
    return path.name == "__main__.py" or path == REPOSITORY / "clara_wf" / "cli.py"


ON_BEHALF_OF_ENTRY_POINTS = {
    "stages/lifecycle/driver.py": {"logs.configure"},
    "stages/resident/worker.py": {"os.environ"},  # a forked process takes on the environment of its job
}


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
    allowed = ON_BEHALF_OF_ENTRY_POINTS.get(path.relative_to(REPOSITORY).as_posix(), set())
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
