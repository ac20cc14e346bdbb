"""The status page of a real adapter's database in a real Chromium: what is seen, and that nothing leaks."""

import base64
import json

import pytest

from clara_wf.payload import Payload
from dicom_adapter.observability.pseudonym import study_hash
from dicom_adapter.status.overview import page_of, queue_of, report_of, why_not_ready
from dicom_adapter.status.page import render
from dicom_adapter.status.server import Answers, serve
from tests.browser import chromium
from tests.dicom_adapter.offline_adapter import STUDY_UID, OfflineAdapter, destination

HOSTILE = "<img src=x onerror=hacked=1><script>hacked=1</script>"
TOKEN = "s3cret-token"


@pytest.fixture
def bench(tmp_path):
    made = OfflineAdapter(tmp_path / "a", destination("PACS", 1, "X"), destination(f"B {HOSTILE}", 1, "X"))
    done = made.done_job("PACS", f"B {HOSTILE}")
    first, second, *_ = made.store.deliveries()
    made.store.move_delivery(first.id, "delivered", status="0x0000")
    made.store.move_delivery(second.id, "dead", message=f"refused {HOSTILE} 1.2.840.113619.2.55.3.604688119")
    report = made.folder / "payloads" / done.id / "publish/report.html"
    report.parent.mkdir(parents=True)
    report.write_text("<!doctype html><title>Report</title><p>the report")
    found = [{"name": "Spleen", "volume_ml": 217.99}, {"name": "Cyst", "volume_ml": 0}]
    report.with_name("report.json").write_text(json.dumps({"findings": found, "warnings": ["cut off"]}))
    dead = made.complete(made.receive("1.2.9"), name="second")
    made.store.start_next(9e9)
    made.store.dead_letter(
        dead.id, exit_code=3, reason=f"slice 3 of 1.2.840.10008.9.9.123456 is missing {HOSTILE}"
    )
    made.done, made.dead = done, dead
    yield made
    made.close()


@pytest.fixture
def url(bench):
    context = bench.context
    context.metrics.watch(lambda: queue_of(context))
    answers = Answers(
        why_not_ready=lambda: why_not_ready(context),
        page=lambda: page_of(context),
        metrics=context.metrics.text,
        report=lambda job: report_of(context, job),
    )
    with serve("127.0.0.1", 0, answers, token=TOKEN) as port:
        yield f"http://127.0.0.1:{port}/"


def test_the_page_names_neither_patient_nor_study(bench):
    page = render(page_of(bench.context))
    assert study_hash(STUDY_UID) in page
    for secret in (
        STUDY_UID,
        "Doe",
        "P-1",
        "1.2.840.10008.9.9.123456",
        "113619.2.55.3.604688119",
        "19500101",
    ):
        assert secret not in page


def test_the_page_says_what_wants_attention(bench):
    problems = page_of(bench.context).problems
    assert any("1 jobs are dead letters" in each for each in problems)
    assert any("1 results for PACS are dead letters" in each for each in problems)


def test_a_job_that_waits_for_a_node_is_pending_and_says_why(bench):
    job = bench.complete(bench.receive("1.2.10"), name="third")
    bench.store.start_next(9e9)
    payload = Payload(root=bench.folder / "payloads" / job.id, job_id=job.id)
    payload.root.mkdir(parents=True)
    payload.note_pending("waiting for a node: 0/2 nodes are available: 2 Insufficient nvidia.com/gpu.")
    (jobs,) = [table for table in page_of(bench.context).tables if table.key == "jobs"]
    (row,) = [row for row in jobs.rows if row[0].text == job.id[:8]]
    assert row[3].text == "pending"
    assert "Insufficient nvidia.com/gpu" in row[6].text
    payload.note_pending("")
    assert [table.rows[0][3].text for table in page_of(bench.context).tables if table.key == "jobs"] == [
        "running"
    ]


def test_a_full_disk_is_not_ready(bench):
    assert why_not_ready(bench.context) == "" or "MiB are free" in why_not_ready(bench.context)
    bench.settings["storage"]["minimum-free"] = "1000T"
    bench.change()
    assert "MiB are free where images are kept" in why_not_ready(bench.context)


def test_the_metrics_count_the_queue(bench):
    queue = queue_of(bench.context)
    assert queue.jobs == {"done": 1, "dead": 1}
    assert queue.deliveries[("PACS", "delivered")] == 1
    assert set(queue.oldest_delivery_s) == {"PACS", f"B {HOSTILE}"}


@pytest.fixture
def page(url):
    troubles = []
    with chromium() as browser:
        credentials = {"username": "any", "password": TOKEN}
        page = browser.new_context(http_credentials=credentials).new_page()
        page.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("request", lambda request: request.url.startswith(url) or troubles.append(request.url))
        page.goto(url)
        yield page
    assert troubles == []


@pytest.mark.browser
def test_in_a_browser_jobs_deliveries_and_studies_are_seen_and_reports_open(page, bench):
    headings = [each.inner_text() for each in page.get_by_role("heading").all()]
    assert headings[1:] == ["Wants attention", "Jobs", "Deliveries", "Destinations", "Studies"]
    jobs = page.get_by_role("region", name="Jobs")
    assert jobs.get_by_text("dead", exact=True).is_visible()
    assert jobs.get_by_text(study_hash(STUDY_UID)).is_visible()
    assert page.evaluate("() => typeof hacked") == "undefined"
    assert HOSTILE in page.inner_text("main")
    assert "Spleen 218.0 ml, Cyst 0.0 ml, 1 warning" in page.inner_text("body")
    page.get_by_role("link", name=f"report of {bench.done.id[:8]}").click()
    assert page.inner_text("p") == "the report"
    page.go_back()
    page.get_by_role("link", name="Reload").click()
    assert page.get_by_role("heading", name="DICOM adapter").is_visible()


OVERFLOWING = """[...document.querySelectorAll(".scroll")].filter((e) => e.scrollWidth > e.clientWidth)
    .map((e) => e.getAttribute("aria-labelledby"))"""


@pytest.mark.browser
def test_in_a_browser_numbers_stand_below_their_headings_and_on_a_phone_beside_them(page):
    ends = page.evaluate(
        """() => [...document.querySelectorAll("td.number")].map((cell) => {
            const heading = cell.closest("table").querySelectorAll("th")[cell.cellIndex]
            const ends = [heading, cell].map((each) => {
                const text = document.createRange()
                text.selectNodeContents(each)
                return text.getBoundingClientRect().right
            })
            return Math.abs(ends[0] - ends[1])
        })"""
    )
    assert len(ends) > 10
    assert max(ends) < 1
    page.set_viewport_size({"width": 400, "height": 800})
    tries = page.locator("td[data-heading=tries]").first
    assert tries.evaluate("(cell) => getComputedStyle(cell, '::before').content") == '"tries"'
    calm = page.get_by_role("region", name="Studies").locator(".badge")
    colours = {each.evaluate("(it) => getComputedStyle(it).backgroundColor") for each in calm.all()}
    assert colours == {"rgb(232, 236, 242)"}


@pytest.mark.browser
def test_in_a_browser_it_reads_itself_again_and_again(url, monkeypatch):
    monkeypatch.setattr("dicom_adapter.status.page.REFRESH_S", 1)
    with chromium() as browser:
        context = browser.new_context(
            java_script_enabled=False, http_credentials={"username": "any", "password": TOKEN}
        )
        page = context.new_page()
        page.goto(url)
        with page.expect_event("load", timeout=60_000):
            pass


@pytest.mark.browser
def test_in_a_browser_it_is_styled_fits_a_phone_and_every_control_and_table_has_a_name(page):
    colour = page.evaluate("() => getComputedStyle(document.querySelector('.badge.bad')).backgroundColor")
    assert colour == "rgb(253, 231, 231)"
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("() => document.documentElement.scrollWidth") == 360
    assert page.evaluate(f"() => {OVERFLOWING}") == []
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("a, button, [role=region]")].filter((each) => !(
            each.textContent.trim() && (each.role !== "region" || each.getAttribute("aria-labelledby"))
        )).map((each) => each.outerHTML)"""
    )
    assert unnamed == []
    assert page.evaluate("() => document.documentElement.lang") == "en"
    assert page.evaluate("() => document.querySelectorAll('th:not([scope])').length") == 0


def test_the_token_also_opens_it_to_who_shows_it_as_basic(url):
    import urllib.request

    shown = base64.b64encode(f"x:{TOKEN}".encode()).decode()
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {shown}"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"
