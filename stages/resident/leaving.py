"""How a forked process ends: at once where its program would end too.

Python takes everything apart when it ends, and a forked process has to copy what it takes apart: that is more
work than many a job. It is left out where the last thing that a program does is ``sys.exit(main(...))``.
"""

from __future__ import annotations

import ast
import atexit
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import NoReturn


def ends_with(function: str) -> bool:
    """Return whether the program that runs ends with ``sys.exit(function(...))``.

    Parameters
    ----------
    function
        The name that the function has in it; one that the program defines by itself does not count.
    """
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    try:
        tree = ast.parse(Path(file or "").read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.If) and ast.unparse(last.test) == "__name__ == '__main__'" and not last.orelse:
        last = last.body[-1]
    return function not in defined and _is_exit(last, function)


def leave(code: int) -> NoReturn:
    """End this process as the interpreter does, but for taking everything apart.

    Parameters
    ----------
    code
        The exit code.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # as multiprocessing ends its processes
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _is_exit(statement: ast.stmt | None, function: str) -> bool:
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        return False
    call = statement.value
    if ast.unparse(call.func) != "sys.exit" or len(call.args) != 1 or not isinstance(call.args[0], ast.Call):
        return False
    called = call.args[0].func
    return isinstance(called, ast.Name) and called.id == function
