"""Publishing: whole or not at all, versioned, and nothing touched when nothing changed."""

import json
import multiprocessing
import os
import re
import shutil
from pathlib import Path

import pytest

from clara_wf.definitions.lint import lint
from clara_wf.definitions.workflow import load_workflows
from clara_wf.publish.publish import model_digests, publish, unpublish
from clara_wf.publish.published import list_published, load_published
from stages import __version__
from stages.errors import OutputError, SettingsError
from stages.runtime import atomic
from tests.cluster import helms

ROOT = Path(__file__).parents[3]
CHART = ROOT / "clara-reference-workflows/charts/clara-workflow"
LIVER_SEG = "fd3ee8bf-b9f3-4808-bd60-243f870ff9bd"
READER_ONLY = "1995f10e-ee14-4d67-b307-452051637dbb"


@pytest.fixture
def shop(tmp_path):
    """Return a function that publishes, from a values.yaml of the test's own, without Docker and Helm."""
    values = tmp_path / "values.yaml"
    shutil.copy(CHART / "values.yaml", values)
    model = tmp_path / "models/liver"
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text("name: 'liver'")
    (model / "1/model.onnx").write_bytes(b"weights")

    def shop(workflow=LIVER_SEG, name="Liver", target=tmp_path / "published", environ=None):
        return publish(
            workflow,
            name,
            target,
            values=values,
            chart=CHART,
            models=tmp_path / "models",
            environ=environ or {"PATH": "/nonexistent"},
        )

    shop.values, shop.target, shop.model = values, tmp_path / "published", model
    return shop


def everything_in(folder):
    return {
        str(path.relative_to(folder)): (path.lstat().st_mtime_ns, path.lstat().st_ino)
        for path in folder.rglob("*")
    }


# What is written


def test_what_is_published_says_what_when_and_by_which_version(shop):
    made = shop()
    told = json.loads((shop.target / LIVER_SEG / "current/published.json").read_text())
    assert (told["workflow"], told["name"], told["display_name"]) == (LIVER_SEG, "liver-seg", "Liver")
    assert (told["version"], told["by"]) == (1, f"clara-stages {__version__}")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", told["published"])
    assert re.fullmatch(r"[0-9a-f]{64}", told["content"])
    assert told["engines"] == ["process", "docker"]
    assert set(told["models"]) == {"liver"}
    assert (made.version, made.is_new) == (1, True)


def test_the_published_workflow_is_the_one_that_was_defined_and_no_other(shop):
    shop()
    made, workflow = load_published(shop.target, LIVER_SEG)
    assert workflow == load_workflows(shop.values)[LIVER_SEG]
    assert lint(made.chart / "values.yaml") == []
    assert set(load_workflows(made.chart / "values.yaml")) == {LIVER_SEG}


def test_only_the_stages_of_the_workflow_go_with_it_and_the_settings_stay(shop):
    shop.values.write_text(shop.values.read_text().replace("  startupSeconds: 600", "  startupSeconds: 77"))
    made = shop(READER_ONLY, "Reader")
    text = (made.chart / "values.yaml").read_text()
    assert "##BEGIN_dicom-reader##" in text
    assert "ai-livertumor" not in text
    assert "startupSeconds: 77" in text


@pytest.mark.parametrize("helm", helms() or [pytest.param("", marks=pytest.mark.skip("no helm"))])
def test_with_helm_the_job_is_rendered_and_the_chart_installs_as_it_lies(shop, helm):
    made = shop(environ={"PATH": "/nonexistent", "HELM": helm})
    assert made.engines == ("process", "docker", "kubernetes")
    job = (made.folder / "job.yaml").read_text()
    assert "kind: Job" in job
    assert "JOB/dicom-reader/output" in job


def test_it_may_be_named_by_name_but_its_folder_is_its_id(shop):
    assert shop("liver-seg").workflow == LIVER_SEG
    assert [path.name for path in shop.target.iterdir()] == [LIVER_SEG]


# Versions


def test_published_again_unchanged_nothing_is_touched(shop):
    shop()
    before = everything_in(shop.target / LIVER_SEG)
    again = shop()
    assert (again.version, again.is_new) == (1, False)
    assert everything_in(shop.target / LIVER_SEG) == before


@pytest.mark.parametrize("change", ["name", "stage", "setting", "model"])
def test_a_change_makes_the_next_version_and_keeps_the_one_before(shop, change):
    first = shop()
    text = shop.values.read_text()
    if change == "stage":
        shop.values.write_text(text.replace('timeout: "300"', 'timeout: "200"', 1))
    elif change == "setting":
        shop.values.write_text(text.replace("backoffLimit: 2", "backoffLimit: 3"))
    elif change == "model":
        (shop.model / "1/model.onnx").write_bytes(b"other weights")
    second = shop(name="Other" if change == "name" else "Liver")
    assert (second.version, second.is_new) == (2, True)
    assert load_published(shop.target, LIVER_SEG)[0].version == 2
    kept = json.loads((first.folder / "published.json").read_text())
    assert (kept["version"], kept["content"]) == (1, first.content)


def test_a_change_of_another_workflow_changes_nothing(shop):
    shop()
    text = shop.values.read_text()
    shop.values.write_text(text.replace('name: "ai-only"', 'name: "ai-alone"'))
    assert shop().is_new is False


def test_unpublished_it_is_no_longer_listed_and_its_history_is_kept(shop):
    shop()
    shop(READER_ONLY, "A reader")
    assert [each.display_name for each in list_published(shop.target)] == ["A reader", "Liver"]
    assert unpublish(LIVER_SEG, shop.target).version == 1
    assert [each.display_name for each in list_published(shop.target)] == ["A reader"]
    with pytest.raises(
        SettingsError, match=f"no workflow {LIVER_SEG} is published .* there are: {READER_ONLY}"
    ):
        load_published(shop.target, LIVER_SEG)
    with pytest.raises(SettingsError, match="is published"):
        unpublish(LIVER_SEG, shop.target)
    again = shop()
    assert (again.version, again.is_new) == (1, True)


def test_a_folder_that_is_not_there_has_nothing_published(tmp_path):
    assert list_published(tmp_path / "missing") == []


# What goes wrong


def test_a_mistake_in_the_chart_is_told_and_nothing_is_written(shop):
    shop.values.write_text(shop.values.read_text().replace("ai-livertumor.lock", "no-such.lock"))
    with pytest.raises(SettingsError, match=r"values.yaml:\d+:\d+: error: "):
        shop()
    assert not shop.target.exists()


@pytest.mark.parametrize("name", ["", "  "])
def test_a_display_name_is_needed(shop, name):
    with pytest.raises(SettingsError, match="the display name is empty"):
        shop(name=name)


@pytest.mark.parametrize("identifier", ["../x", LIVER_SEG.upper(), f"{LIVER_SEG}/../..", ""])
def test_names_never_lead_out_of_the_folder(shop, identifier):
    shop()
    with pytest.raises(SettingsError, match="a workflow's ID is a UUID in small letters"):
        unpublish(identifier, shop.target)
    with pytest.raises(SettingsError, match="a workflow's ID is a UUID in small letters"):
        load_published(shop.target, identifier)


def test_a_link_in_place_of_the_folder_is_refused(shop, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    shop.target.mkdir()
    (shop.target / LIVER_SEG).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match="is a link that may lead elsewhere"):
        shop()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_helm_that_is_named_but_missing_is_told(shop):
    with pytest.raises(SettingsError, match="HELM=/nowhere/helm is not there"):
        shop(environ={"PATH": "/nonexistent", "HELM": "/nowhere/helm"})


def test_a_target_that_cannot_be_written_is_told_in_one_line(shop, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot publish in .*file"):
        shop(target=tmp_path / "file")


@pytest.mark.parametrize("moment", ["sync_tree", "sync_folder"])
def test_a_crash_leaves_what_was_published_before(shop, monkeypatch, moment):
    shop()
    (shop.model / "1/model.onnx").write_bytes(b"other weights")

    def crash(folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(atomic, moment, crash)
        with pytest.raises(KeyboardInterrupt):
            shop()
    assert load_published(shop.target, LIVER_SEG)[0].version == 1
    assert shop().version == 2
    assert [path.name for path in sorted((shop.target / LIVER_SEG / "versions").iterdir())] == ["1", "2"]


def publish_in_a_process(folder, number):
    publish(
        LIVER_SEG,
        f"Liver {number}",
        folder,
        values=CHART / "values.yaml",
        chart=CHART,
        models=None,
        environ={"PATH": "/nonexistent"},
    )


def test_two_who_publish_at_once_make_two_versions(tmp_path):
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=publish_in_a_process, args=(tmp_path, n)) for n in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    versions = [
        load_published(tmp_path, LIVER_SEG)[0].version,
        len(os.listdir(tmp_path / LIVER_SEG / "versions")),
    ]
    assert versions == [2, 2]


def test_the_digest_of_a_model_covers_names_and_contents(tmp_path):
    def digest(files):
        folder = tmp_path / "model"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_text(content)
        return model_digests(tmp_path)["model"]

    first = digest({"config.pbtxt": "a", "x": "1"})
    assert first == digest({"config.pbtxt": "a", "x": "1"})
    assert first != digest({"config.pbtxt": "a", "y": "1"})
    assert first != digest({"config.pbtxt": "a", "x": "2"})
    assert model_digests(None) == {}
