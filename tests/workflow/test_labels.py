"""What a model says of its labels reaches every result, page and table: five models, the whole road."""

import json
import shutil
from pathlib import Path

import pydicom
import pytest

from clara_wf.model_server.server import serve
from clara_wf.run.demo import write_phantom
from clara_wf.workspace import Places
from clara_wf.yaml.document import read_document
from dicom_writer.seg.segments import cielab
from phantoms import make_abdomen
from tests import onnx_models
from tests.workflow.conftest import ROOT, clara_wf

pytestmark = [pytest.mark.workflow, pytest.mark.triton]

KINDS = "seg,labelmap,rtstruct,report,capture,pdf"
CENTRES = (0.1, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8)
ORGANS = {
    "Spleen": ("78961009", (157, 108, 162)),
    "Right kidney": ("9846003", (185, 102, 83)),
    "Left kidney": ("18639004", (150, 102, 83)),
    "Gallbladder": ("28231008", (139, 150, 98)),
    "Liver": ("10200004", (221, 130, 101)),
    "Stomach": ("69695003", (216, 132, 105)),
    "Pancreas": ("15776009", (249, 180, 111)),
    "Aorta": ("15825003", (224, 97, 76)),
}


def meaning(name):
    code, rgb = ORGANS[name]
    return {"name": name, "type": {"value": code, "meaning": name}, "rgb": rgb}


MODELS = {
    "organs": {"labels": list(range(9)), "meanings": {n: meaning(o) for n, o in enumerate(ORGANS, start=1)}},
    "liver_only": {"labels": [0, 1], "meanings": {1: meaning("Liver")}},
    "spleen": {"labels": [0, 1], "meanings": {1: meaning("Spleen")}},
    "five": {"labels": [0, 5], "meanings": {5: meaning("Aorta")}},
    "nameless": {"labels": [0, 5], "meanings": {}},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Make a series with its truth, a repository of five models and the example's, and a server of them."""
    folder = tmp_path_factory.mktemp("labels")
    phantom = make_abdomen(900_001, shape=(12, 64, 64), spacing_mm=(15.0, 6.0, 6.0))
    write_phantom(phantom, folder / "series", truth_folder=folder / "truth")
    repository = folder / "models"
    for name, model in MODELS.items():
        count = len(model["labels"])
        onnx_models.add_model(
            repository,
            name,
            image=[1, -1, -1, -1],
            scores=[count, -1, -1, -1],
            centres=CENTRES[:count] if count > 2 else (0.1, 0.5),
            window_shape=[12, 64, 64],
            channel_labels=model["labels"],
            label_meanings={str(value): said for value, said in model["meanings"].items()} or None,
        )
    shutil.copytree(ROOT / "examples/user_ai/models/body_fat", repository / "body_fat")
    with serve(repository, cache=Places.here({}).cache, log=folder / "log", on_progress=print) as server:
        yield folder, server.grpc_url


@pytest.fixture
def road(place, tmp_path):
    """Return what runs reader, AI stage with a model, and writer on the series of `place`."""
    folder, url = place

    def run(model, *, writer=("--results", KINDS), labels=None, code=0):
        values = tmp_path / "values.yaml"
        text = Places.here({}).values.read_text()
        args = json.dumps(["", ["--model", model], list(writer)])
        text = text.replace('args: ["", "", ""]', f"args: {args}", 1)
        if labels:
            text = text.replace(f"args: {args}", f"args: {args}\n    labels: {json.dumps(labels)}", 1)
        values.write_text(text)
        assert json.dumps(model) in str(read_document(values).text)
        done = clara_wf(
            *("test", "liver-seg", "--json", "--values", values, "--models", folder / "models"),
            *("--input", folder / "series", "--payloads", tmp_path / "payloads", "--server", url),
        )
        assert done.code == code, done.err
        return done

    return run


def said_by(results):
    """Return, by kind of result, the names, code values and colours of labels in it."""
    found = {}
    for path in results:
        ds = pydicom.dcmread(path)
        if ds.Modality == "SEG":
            found[ds.SegmentationType] = [
                (
                    s.SegmentLabel,
                    s.SegmentedPropertyTypeCodeSequence[0].CodeValue,
                    s.RecommendedDisplayCIELabValue,
                )
                for s in ds.SegmentSequence
            ]
        elif ds.Modality == "RTSTRUCT":
            codes = [o.RTROIIdentificationCodeSequence[0].CodeValue for o in ds.RTROIObservationsSequence]
            colours = [list(map(int, c.ROIDisplayColor)) for c in ds.ROIContourSequence]
            names = [roi.ROIName for roi in ds.StructureSetROISequence]
            found["RTSTRUCT"] = list(zip(names, codes, colours, strict=True))
        elif ds.Modality == "SR":
            found["SR"] = ds.to_json()
        elif ds.Modality == "DOC":
            found["PDF"] = bytes(ds.EncapsulatedDocument)
        else:
            found["capture"] = ds
    return found


@pytest.mark.parametrize("model", ["organs", "liver_only", "spleen", "five", "body_fat"])
@pytest.mark.slow
def test_every_result_page_and_table_names_the_labels_as_the_model_does(road, model):
    done = road(model)
    names = [said["name"] for said in MODELS[model]["meanings"].values()] if model in MODELS else ["Body fat"]
    codes = [ORGANS[name][0] if name in ORGANS else "55603005" for name in names]
    colours = [ORGANS[name][1] if name in ORGANS else (230, 200, 90) for name in names]
    assert [f["name"] for f in done.report["findings"]] == names
    assert [f["type"]["value"] for f in done.report["findings"]] == codes
    assert [tuple(f["rgb"]) for f in done.report["findings"]] == colours
    found = said_by(done.report["results"])
    expected = [(n, c, cielab(rgb)) for n, c, rgb in zip(names, codes, colours, strict=True)]
    assert found["BINARY"] == expected
    assert [entry for entry in found["LABELMAP"] if entry[0] in names] == expected
    assert found["RTSTRUCT"] == [(n, c, list(rgb)) for n, c, rgb in zip(names, codes, colours, strict=True)]
    assert all(finding["dice"] is None for finding in done.report["findings"])  # there is no truth
    page = Path(done.report["page"]).read_text().replace(">Liver</button>", "")  # the name of a window
    texts = {"SR": found["SR"], "PDF": _text_of_pdf(found["PDF"]), "page": page}
    for kind, text in texts.items():
        assert all(name in text for name in names), kind
        others = {"Liver", "tumour", "Spleen", "Aorta", "Body fat"} - {
            part for n in names for part in n.split()
        }
        others -= set(names)
        assert [other for other in sorted(others) if f">{other}<" in text or f" {other} " in text] == [], kind


def _text_of_pdf(data):
    from io import BytesIO

    from pypdf import PdfReader

    return "\n".join(page.extract_text() for page in PdfReader(BytesIO(data)).pages)


@pytest.mark.slow
def test_a_model_without_meanings_ends_at_the_writer_and_says_where_to_put_them(road):
    done = road("nameless", code=3)
    assert "nobody said what label 5 of the mask means" in done.err
    for where in ("config.pbtxt of model 'nameless'", "labels of the workflow", "--labels FILE"):
        assert where in done.err


@pytest.mark.slow
def test_the_workflow_may_say_what_labels_mean_that_the_model_does_not(road):
    aorta = {"value": 5, **meaning("Aorta")}
    done = road("nameless", labels=[aorta])
    assert [f["name"] for f in done.report["findings"]] == ["Aorta"]
    assert [entry[0] for entry in said_by(done.report["results"])["BINARY"]] == ["Aorta"]
    log = (Path(done.report["payload"]) / "logs/ai-livertumor.log").read_text()
    assert "found Aorta " in log
    assert "WARNING" not in log  # it is said what each label means


@pytest.mark.slow
def test_a_file_of_labels_overrides_both_in_everything(road, tmp_path):
    file = tmp_path / "labels.yaml"
    file.write_text(json.dumps({"labels": [{"value": 1, **meaning("Pancreas")}]}))
    done = road("spleen", writer=("--results", KINDS, "--labels", str(file)))
    assert [f["name"] for f in done.report["findings"]] == ["Pancreas"]
    assert [entry[0] for entry in said_by(done.report["results"])["BINARY"]] == ["Pancreas"]
    page = Path(done.report["page"]).read_text()
    assert "Pancreas" in page
    assert "label 1 is written as Pancreas, as stated; what made the mask calls it Spleen" in page
