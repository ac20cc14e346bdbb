"""``python -m stages wrap -- COMMAND ARGS...``: run any program as a stage.

``carry``: see `stages.pod.agent`.

``python -m stages windows-model REPOSITORY`` writes the model that cuts windows on the server
(`stages.segmentation.server_side`).
"""

import os
import sys
from pathlib import Path

from stages.lifecycle.driver import main
from stages.lifecycle.settings import is_in_job
from stages.lifecycle.wrap import WrappedCommand

_USAGE = "usage: python -m stages wrap -- COMMAND ARGS..."


def _wrap(argv: list[str]) -> int:
    if argv[:2] != ["wrap", "--"] or len(argv) < 3:
        print(_USAGE, file=sys.stderr)  # noqa: T201 - a usage line, before any log is configured
        return 2
    if not is_in_job(os.environ):
        print(f"{_USAGE}\nruns in a job of a workflow only; by hand run the command itself", file=sys.stderr)  # noqa: T201
        return 2
    return main(WrappedCommand(argv[2:]), [], os.environ)


def _carry(argv: list[str]) -> int:
    from stages.pod import agent
    from stages.runtime import logs

    logs.configure()
    return agent.main(argv)


def _windows_model(argv: list[str]) -> int:
    from stages.errors import SettingsError
    from stages.segmentation.server_side import write_windows_model

    if len(argv) != 1:
        print("usage: python -m stages windows-model REPOSITORY", file=sys.stderr)  # noqa: T201
        return 2
    try:
        print(write_windows_model(Path(argv[0])))  # noqa: T201
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


if __name__ == "__main__":
    commands = {"carry": _carry, "windows-model": _windows_model}
    chosen = commands.get(sys.argv[1] if len(sys.argv) > 1 else "")
    sys.exit(chosen(sys.argv[2:]) if chosen else _wrap(sys.argv[1:]))
