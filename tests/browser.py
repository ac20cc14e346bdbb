"""A real Chromium for pages."""

import shutil
from contextlib import contextmanager

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_QUIET = (
    "--no-sandbox",  # as root there is none
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@contextmanager
def chromium():
    """Start a Chromium that asks the network for nothing, or skip the test."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip("no Chromium is installed; scripts/install-peers does")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=list(_QUIET))
        yield started
        started.close()
