"""The site builds, and has what it should."""

import subprocess
import sys
from html.parser import HTMLParser

import pytest

from tests.test_imports import REPOSITORY, ROOMS

API = ("stages", "dicom_reader", "ai_livertumor", "dicom_writer")


class Ids(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.found = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.found |= {value for name, value in attrs if name == "id"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_every_room_of_the_api_has_a_page(site):
    pages = {
        path.relative_to(site / "reference/api").as_posix() for path in site.rglob("reference/api/**/*.html")
    }
    expected = {f"{package}/{room}.html" for package in API for room in ROOMS.get(package, ())}
    assert pages == expected | {f"{package}/index.html" for package in API}


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("stages/volume.html", "stages.volume.io.read_volume"),
        ("dicom_writer/write.html", "dicom_writer.write.write_results"),
    ],
)
def test_functions_are_described_on_the_page_of_their_room(site, page, name):
    assert name in Ids(site / "reference/api" / page).found


def test_the_architecture_page_draws_every_map(site):
    page = (site / "explanation/architecture.html").read_text(encoding="utf-8")
    assert "<!-- map of" not in page
    assert all(f"<td><code>{room}</code></td>" in page for rooms in ROOMS.values() for room in rooms)
