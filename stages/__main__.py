"""``python -m stages wrap -- COMMAND ARGS...``: run any program as a stage; ``carry``: see `stages.carry`."""

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


def _carry(argv: list[str]) -> int:
    from stages import carry, logs

    logs.configure()
    return carry.main(argv)


if __name__ == "__main__":
    sys.exit(_carry(sys.argv[2:]) if sys.argv[1:2] == ["carry"] else _wrap(sys.argv[1:]))
