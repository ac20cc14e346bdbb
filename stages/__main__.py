"""``python -m stages wrap -- COMMAND ARGS...``: run any program as a stage."""

import os
import sys

from stages.driver import main
from stages.wrap import WrappedCommand

_USAGE = "usage: python -m stages wrap -- COMMAND ARGS..."


def _wrap(argv: list[str]) -> int:
    if argv[:2] != ["wrap", "--"] or len(argv) < 3:
        print(_USAGE, file=sys.stderr)  # noqa: T201 - a usage line, before any log is configured
        return 2
    return main(WrappedCommand(argv[2:]), [], os.environ)


if __name__ == "__main__":
    sys.exit(_wrap(sys.argv[1:]))
