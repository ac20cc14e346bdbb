"""The page of a job in a real Chromium, opened from its file: what is seen, and what the controls do."""

import dataclasses
import socket
from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from clara_wf.report.page import write_page
from stages.volume.geometry import points_at
from stages.volume.origin import SliceOrigin
from tests.browser import chromium
from tests.finished_job import CUBE_MM, SERIES, ct_and_mask, finished_job
from tests.phantoms import LABELS

COLOURS = {label.value: label.drawn_rgb for label in LABELS}
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture
def troubles():
    """Return what went wrong in the pages that were opened, and what they asked for."""
    return []


@pytest.fixture
def opened(browser, tmp_path, troubles):
    """Return what opens the page of a job; nothing may go wrong in it, and no request may leave it."""
    pages = []

    def open_page(job, **context):
        path = write_page(job, tmp_path / "report.html")
        page = browser.new_context(viewport={"width": 1280, "height": 900}, **context).new_page()
        page.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("request", lambda request: request.url == path.as_uri() or troubles.append(request.url))
        page.goto(path.as_uri())
        pages.append(page)
        if job.image is not None:
            page.wait_for_selector("#images[data-ready]")
        return page

    yield open_page
    for page in pages:
        page.context.close()
    assert troubles == []


@pytest.fixture
def page(opened, tmp_path):
    return opened(finished_job(tmp_path))


def state(page, expression):
    """Return the value of an expression of the page's scene, drawn as it is now."""
    return page.evaluate(f"() => {{ const scene = claraReport; scene.draw(); return {expression}; }}")


def canvas(page, pane):
    return page.locator(f"#pane-{pane} canvas")


def pixels(page, pane):
    """Return the pixels of a picture, shape (rows, columns, 3), and where each voxel lies on it."""
    url, fit = canvas(page, pane).evaluate(
        """canvas => {
            claraReport.draw();
            const view = claraReport.views.find((each) => each.canvas === canvas);
            return [canvas.toDataURL("image/png"), view.fit ? view.fit(canvas.width, canvas.height) : null];
        }"""
    )
    return np.asarray(Image.open(BytesIO(b64decode(url.partition(",")[2]))).convert("RGB")), fit


def show(page, **settings):
    """Change what is drawn beside CT and mask, so that pixels can be compared."""
    page.evaluate(
        "settings => { Object.assign(claraReport, settings); claraReport.setMask(); }",
        {"crosshair": False, "outlines": False, "opacity": 1, **settings},
    )


@pytest.mark.parametrize("orientation", ["SPL", "IAR", "LSA"])
def test_every_voxel_has_the_label_and_the_value_it_has_in_the_file(opened, tmp_path, orientation):
    image, mask = ct_and_mask(orientation=orientation)
    page = opened(dataclasses.replace(finished_job(tmp_path), image=image, mask=mask))
    labels, hu = page.evaluate(
        """([slices, rows, columns]) => {
            const labels = [], hu = [];
            for (let n = 0; n < slices * rows * columns; n++) {
                const index = [Math.floor(n / columns / rows), Math.floor(n / columns) % rows, n % columns];
                const voxel = claraReport.fromFile(index);
                labels.push(claraReport.labelAt(voxel));
                hu.push(claraReport.huAt(voxel));
            }
            return [labels, hu];
        }""",
        list(image.array.shape),
    )
    assert np.array_equal(np.reshape(labels, mask.array.shape), mask.array)
    assert np.abs(np.reshape(hu, image.array.shape) - image.array).max() <= 15


def test_of_a_reduced_volume_each_voxel_shows_its_block(opened, tmp_path, monkeypatch):
    monkeypatch.setattr("clara_wf.report.viewer.MAX_IMAGE_VOXELS", 10_000)
    monkeypatch.setattr("clara_wf.report.viewer.MAX_MASK_VOXELS", 1_000)
    image, mask = ct_and_mask(orientation="IPL")  # as the page has it
    page = opened(dataclasses.replace(finished_job(tmp_path), image=image, mask=mask))
    assert page.evaluate("() => [claraReport.image.factors, claraReport.mask.factors]") == [
        [1, 3, 3],
        [1, 3, 3],
    ]
    shown = page.evaluate(
        """() => [[10, 25, 12], [10, 24, 16]].map(
            (voxel) => [claraReport.labelAt(voxel), claraReport.huAt(voxel)])"""
    )
    # the labels begin at row 10 and column 5, so blocks are rows 25 to 27 and 22 to 24, columns 11 to 13 and
    # 14 to 16; the tumour ends at row 25 and column 15
    assert (mask.array[10, 25, 12], mask.array[10, 24, 16]) == (2, 1)
    assert (mask.array[10, 26, 12], mask.array[10, 23, 15]) == (1, 2)
    assert shown == [[1, -101], [2, -101]]


@pytest.mark.parametrize("orientation", ["SPL", "IAR"])
def test_the_colour_of_each_voxel_is_that_of_its_label(opened, tmp_path, orientation):
    image, mask = ct_and_mask(orientation=orientation)
    page = opened(dataclasses.replace(finished_job(tmp_path), image=image, mask=mask))
    show(page)
    level = 9 if orientation == "SPL" else 20 - 1 - 9
    page.evaluate("index => claraReport.goTo(claraReport.fromFile(index))", [level, 0, 0])
    drawn, fit = pixels(page, "axial")
    plane = mask.array[level] if orientation == "SPL" else mask.array[level, ::-1, ::-1]
    for row, column in np.ndindex(*plane.shape):
        y, x = (
            int(fit[edge] + (n + 0.5) * fit[size])
            for edge, n, size in (("top", row, "down"), ("left", column, "across"))
        )
        colour = tuple(drawn[y, x].tolist())
        if plane[row, column]:
            assert colour == COLOURS[int(plane[row, column])]
        else:
            assert colour[0] == colour[1] == colour[2]


def bright(drawn):
    """Return the box of the white block among grey (38): top, bottom, left, right."""
    rows, columns = np.nonzero(drawn[..., 0] > (38 + 255) / 2)
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


@pytest.mark.parametrize(
    ("pane", "letters", "corner"),
    [
        ("axial", "APRL", "top right"),  # the bright block lies anterior, left and at the head
        ("coronal", "HFRL", "top right"),
        ("sagittal", "HFAP", "top left"),
    ],
)
@pytest.mark.parametrize("orientation", ["SPL", "IAR"])
def test_planes_are_radiological_and_in_proportion(opened, tmp_path, pane, letters, corner, orientation):
    image, mask = ct_and_mask(orientation=orientation)
    page = opened(dataclasses.replace(finished_job(tmp_path), image=image, mask=mask))
    show(page, opacity=0)
    page.evaluate("() => claraReport.goTo([2, 10, 50])")  # through the block
    drawn, fit = pixels(page, pane)
    top, bottom, left, right = bright(drawn[:-30])  # without the scale below
    sides = ("top", "bottom", "left", "right")
    assert [page.locator(f"#pane-{pane} .{side}").inner_text() for side in sides] == list(letters)
    assert bottom - top == pytest.approx(CUBE_MM * fit["perMm"], abs=2)
    assert right - left == pytest.approx(CUBE_MM * fit["perMm"], abs=2)
    assert ("top" if (top + bottom) / 2 < drawn.shape[0] / 2 else "bottom") == corner.split()[0]
    assert ("left" if (left + right) / 2 < drawn.shape[1] / 2 else "right") == corner.split()[1]


def test_the_point_is_told_in_patient_coordinates_and_file_indices(page):
    image, _ = ct_and_mask()
    page.evaluate("() => claraReport.goTo(claraReport.fromFile([9, 21, 12]))")
    x, y, z = points_at(image.affine, [9, 21, 12])
    assert (x, y, z) == (-36.0, -8.0, 145.0)
    told = state(page, "document.getElementById('here').textContent")
    number, place, value, label, voxel = told.split(" · ")
    assert (number, place, value, label) == (
        "slice 10",
        "R 36.0 mm, A 8.0 mm, H 145.0 mm",
        "about -101 HU",
        "Liver tumour",
    )
    assert voxel == "voxel [slice, row, column] = [9, 21, 12]"


def test_the_page_opens_at_the_tumour(page):
    assert state(page, "scene.labelAt(scene.voxel)") == 2


@pytest.mark.parametrize(
    ("act", "steps"),
    [
        (lambda page, axial: page.mouse.wheel(0, 100), 1),
        (lambda page, axial: page.mouse.wheel(0, -100), -1),
        (lambda page, axial: axial.press("ArrowDown"), 1),
        (lambda page, axial: axial.press("PageUp"), -9),  # there are no more
        (lambda page, axial: axial.press("End"), 10),
        (lambda page, axial: page.locator("#pane-axial input[type=range]").press("ArrowRight"), 1),
        (lambda page, axial: page.locator("#pane-axial input[type=range]").fill("3"), -6),
    ],
)
def test_wheel_keys_and_slider_go_through_the_slices(page, act, steps):
    axial = canvas(page, "axial")
    axial.hover()
    page.evaluate("() => claraReport.goTo([9, 22, 12])")
    before, _ = pixels(page, "axial")
    act(page, axial)
    page.wait_for_selector(f"#pane-axial canvas[data-slice='{9 + steps}']")
    after, _ = pixels(page, "axial")
    assert not np.array_equal(before, after)
    number = 20 - (9 + steps)  # counted as the file has them, from the feet
    assert page.locator("#pane-axial output").inner_text().startswith(f"slice {number} ·")


@pytest.mark.parametrize(
    ("orientation", "pane", "others"), [("SPL", "axial", "13 / 60"), ("LSA", "sagittal", "11 / 20")]
)
def test_a_slice_has_the_number_by_which_people_find_it(opened, tmp_path, orientation, pane, others):
    image, mask = ct_and_mask(orientation=orientation)
    slices = tuple(
        SliceOrigin(sop_instance_uid=f"1.{n}", position=(0, 0, n), instance_number=300 - n)
        for n in range(len(image.array))
    )
    image = dataclasses.replace(image, origin=dataclasses.replace(image.origin, slices=slices))
    page = opened(dataclasses.replace(finished_job(tmp_path), image=image, mask=mask))
    page.evaluate("() => claraReport.goTo([10, 22, 12])")
    number = 300 - (9 if orientation == "SPL" else 12)  # stored from the feet, or from the right
    assert state(page, "document.getElementById('here').textContent").startswith(f"slice {number} ·")
    assert page.locator(f"#pane-{pane} output").inner_text().startswith(f"slice {number} ·")
    other = "sagittal" if pane == "axial" else "axial"
    assert page.locator(f"#pane-{other} output").inner_text().startswith(f"{others} ·")


# Boxes of the pictures, row by row; a row must be as wide as all of them together, and even in height.
ROWS = """() => {
    const boxes = [...document.querySelectorAll(".pane")].map((pane) => pane.getBoundingClientRect());
    boxes.sort((one, other) => one.top - other.top);
    const rows = Map.groupBy(boxes, ({ top }) => Math.round(top));
    return [...rows.values()].map((row) => ({
        panes: row.length,
        wide: Math.round(row.reduce((sum, { width }) => sum + width, 12 * (row.length - 1))),
        heights: new Set(row.map(({ height }) => Math.round(height))).size,
    }));
}"""


@pytest.mark.parametrize("with_mask", [True, False])
def test_an_enlarged_picture_leaves_no_hole_and_escape_makes_it_small_again(opened, tmp_path, with_mask):
    job = finished_job(tmp_path)
    page = opened(job if with_mask else dataclasses.replace(job, mask=None))
    for width, name in ((1440, "coronal"), (1000, "axial"), (768, "3-D" if with_mask else "sagittal")):
        page.set_viewport_size({"width": width, "height": 900})
        wide = page.locator(".panes").bounding_box()["width"]
        page.get_by_role("button", name=f"Enlarge {name}").press("Enter")
        rows = page.evaluate(ROWS)
        assert [row["panes"] for row in rows] == [1, 3 if with_mask else 2]
        assert [(row["wide"], row["heights"]) for row in rows] == [(pytest.approx(wide, abs=2), 1)] * 2
        assert page.get_by_role("button", name=f"Reduce {name}").is_visible()
        assert page.get_by_role("button", name="Reduce").count() == 1
        page.keyboard.press("Escape")
        assert page.locator(".pane.large").count() == page.get_by_role("button", name="Reduce").count() == 0


def test_names_do_not_break_in_a_narrow_window(opened, tmp_path):
    job = finished_job(tmp_path, results=[f"{n}.dcm" for n in range(84)])
    long = "portal_vein_and_splenic_vein_and_mesenteric_vein_of_the_left_64"
    liver, tumour = (dataclasses.replace(finding, dice=0.9) for finding in job.findings)
    found = [liver, dataclasses.replace(tumour, name=long)]
    page = opened(dataclasses.replace(job, findings=found))
    page.set_viewport_size({"width": 390, "height": 844})
    table = page.locator(".findings")
    assert table.evaluate("table => table.offsetWidth <= table.parentElement.clientWidth")
    broken = page.evaluate(
        """() => {
            const label = document.querySelector(".findings tbody th");
            label.append(" sternocleidomastoid with temporomandibular joint");
            const found = [], range = document.createRange();
            for (const cell of document.querySelectorAll("th, td, label, button, dd, summary, .badge")) {
                const walk = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
                for (let text; (text = walk.nextNode());) {
                    if (text.parentElement.closest(".unseen, .files table")) continue;
                    for (const word of text.textContent.matchAll(/[a-z0-9.…]+/gi)) {
                        range.setStart(text, word.index);
                        range.setEnd(text, word.index + word[0].length);
                        const tops = new Set([...range.getClientRects()].map(({ top }) => Math.round(top)));
                        if (tops.size > 1) found.push(word[0]);
                    }
                }
            }
            return found;
        }"""
    )
    assert broken == []
    assert page.evaluate("() => document.documentElement.scrollWidth") == 390
    summary = page.get_by_text("84 files, 168.0 KiB")
    assert not page.get_by_text("output/83.dcm").is_visible()
    summary.press("Enter")
    assert page.get_by_text("output/83.dcm").is_visible()


def test_a_click_moves_the_other_planes_to_the_point(page):
    axial = canvas(page, "axial")
    box = axial.bounding_box()
    axial.click(position={"x": box["width"] * 0.75, "y": box["height"] * 0.51})
    assert state(page, "scene.voxel.slice(1)") == [25, 45]
    assert canvas(page, "sagittal").get_attribute("data-slice") == "45"
    assert canvas(page, "coronal").get_attribute("data-slice") == "25"


def test_the_window_follows_presets_numbers_and_dragging(page):
    show(page, opacity=0)
    page.evaluate("() => claraReport.goTo([18, 40, 40])")  # fat, -100 HU

    def grey():
        drawn, _ = pixels(page, "axial")
        return int(drawn[drawn.shape[0] // 2, drawn.shape[1] // 3, 0])

    assert grey() == 38  # soft tissue, -160 to 240 HU, and -101 HU is shown
    page.get_by_role("button", name="Lung").click()
    assert grey() == 212  # -1350 to 150 HU
    assert page.get_by_role("button", name="Lung").get_attribute("aria-pressed") == "true"
    page.get_by_label("Level").fill("-100")
    page.get_by_label("Level").press("Tab")
    assert grey() == 127
    canvas(page, "axial").hover()
    page.mouse.down(button="right")
    page.mouse.move(700, 500)
    page.mouse.up(button="right")
    assert state(page, "scene.window.width") != 1500


def test_a_label_can_be_hidden_and_made_clear(page):
    show(page)
    colour = np.array(COLOURS[1])

    def shown():
        return int((pixels(page, "axial")[0] == colour).all(axis=2).sum())

    assert shown() > 1000
    page.get_by_role("checkbox", name="Liver", exact=True).uncheck()
    assert shown() == 0
    page.get_by_role("checkbox", name="Liver", exact=True).check()
    page.get_by_label("Opacity").fill("0")
    assert shown() == 0


def test_the_surfaces_turn_by_keys_and_mouse_and_follow_the_labels(page):
    first, _ = pixels(page, "surface")
    canvas(page, "surface").press("ArrowLeft")
    turned, _ = pixels(page, "surface")
    assert not np.array_equal(first, turned)
    box = canvas(page, "surface").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 150)
    page.mouse.up()
    assert not np.array_equal(turned, pixels(page, "surface")[0])
    front = page.get_by_role("button", name="front")
    assert front.get_attribute("aria-pressed") == "false"
    front.click()
    assert np.array_equal(first, pixels(page, "surface")[0])
    assert front.get_attribute("aria-pressed") == "true"
    page.get_by_role("checkbox", name="Liver", exact=True).uncheck()
    page.get_by_role("checkbox", name="Liver tumour").uncheck()
    empty, _ = pixels(page, "surface")
    assert len(np.unique(empty[:-120].reshape(-1, 3), axis=0)) == 1


def test_the_surface_lies_where_the_mask_lies(page):
    """From the front the liver, at the patient's right, spans 50 of 120 mm; its middle is at the middle."""
    drawn, _ = pixels(page, "surface")
    red, green, blue = np.moveaxis(drawn[:, 100:].astype(int), 2, 0)  # without the compass
    tumour = green > blue + 50  # yellow, the liver is red
    liver = (red > blue + 15) | tumour
    assert tumour.any()
    columns = np.flatnonzero(liver.any(axis=0))
    rows = np.flatnonzero(liver.any(axis=1))
    assert np.ptp(columns) / np.ptp(rows) == pytest.approx(50 / 50, abs=0.05)  # 25 x 2 mm, 10 x 5 mm
    assert np.nonzero(tumour)[1].mean() < columns.mean()  # more to the right of the patient


def test_a_finger_scrolls_and_taps(opened, tmp_path):
    page = opened(finished_job(tmp_path), has_touch=True)
    page.evaluate("() => claraReport.goTo([9, 22, 12])")
    axial = canvas(page, "axial")
    axial.scroll_into_view_if_needed()
    box = axial.bounding_box()
    x, y = box["x"] + box["width"] * 0.75, box["y"] + box["height"] / 2
    session = page.context.new_cdp_session(page)
    for kind, points in [
        ("touchStart", [{"x": x, "y": y}]),
        ("touchMove", [{"x": x, "y": y + 10}]),
        ("touchMove", [{"x": x, "y": y + 24}]),
        ("touchEnd", []),
    ]:
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert state(page, "scene.voxel") == [13, 22, 12]  # a slice every six pixels
    page.touchscreen.tap(x, y)
    assert state(page, "scene.voxel") == [13, 25, 45]


def test_text_of_others_never_runs_and_nothing_can_be_fetched(opened, tmp_path, troubles):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        hostile = f"<img src={url} onerror=hacked=1></pre></script><script>hacked=1</script>"
        lines = [f"2026-03-04T12:00:00Z WARNING a: {hostile}"]
        page = opened(finished_job(tmp_path, log_lines=lines, results=[hostile.replace("/", "_")]))
        assert page.evaluate("() => typeof hacked") == "undefined"
        assert hostile in page.inner_text("main")
        assert troubles == []
        refused = page.evaluate(
            """url => new Promise((tell) => {
                const refused = (event) => tell(event.effectiveDirective);
                document.addEventListener("securitypolicyviolation", refused);
                new Image().src = url;
            })""",
            url,
        )
        assert refused == "img-src"
        with pytest.raises(BlockingIOError):
            server.accept()
        troubles.clear()  # what was refused here


def test_the_page_of_a_failed_job_says_why_and_draws_nothing(opened, tmp_path):
    job = finished_job(tmp_path, failed="dicom-reader", message="a slice may be missing")
    page = opened(job)
    assert page.get_by_role("heading", name="dicom-reader failed").is_visible()
    assert page.locator("canvas").count() == 0
    assert SERIES not in page.content()


def test_one_slice_more_than_none_is_enough(opened, tmp_path):
    image, mask = (dataclasses.replace(volume, array=volume.array[8:11]) for volume in ct_and_mask())
    page = opened(dataclasses.replace(finished_job(tmp_path), image=image, mask=mask))
    assert page.locator("#pane-axial output").inner_text().endswith("mm")
    assert state(page, "scene.shape") == [3, 50, 60]


def test_a_narrow_window_needs_no_scrolling_sideways_and_dark_is_dark(opened, tmp_path):
    page = opened(finished_job(tmp_path), color_scheme="dark")
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(16, 19, 22)"
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("() => document.documentElement.scrollWidth") == 360


def test_every_control_has_a_name(page):
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("button, input, canvas, a")].filter((each) => !(
            each.textContent.trim() || each.getAttribute("aria-label") || each.labels?.length
        )).map((each) => each.outerHTML)"""
    )
    assert unnamed == []
