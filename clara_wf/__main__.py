"""``python -m clara_wf``, and the installed command."""

import signal
import sys


def main() -> None:
    """Run the command line."""
    # A container's first process ignores a signal that it does not handle, and the imports take a second.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    from stages.runtime.extras import report_missing_extra

    if code := report_missing_extra("cli"):
        sys.exit(code)
    from clara_wf.cli import entry_point

    entry_point()


if __name__ == "__main__":
    main()
