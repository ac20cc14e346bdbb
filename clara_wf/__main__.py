"""``python -m clara_wf``."""

from clara_wf.cli import entry_point

if __name__ == "__main__":
    entry_point()
