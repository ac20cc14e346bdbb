"""The command: which results, which labels, and what it refuses before any work."""

import pydicom
import pytest

from dicom_writer.__main__ import DicomWriter
from dicom_writer.kinds import RESULT_KINDS, kinds_named
from stages import SettingsError, main, write_volume
from tests import phantoms


@pytest.fixture
def command(source, tmp_path, caplog):
    """Return what runs the stage by hand and gives its exit code."""
    write_volume(phantoms.mask(), tmp_path / "mask")

    def run(*arguments):
        folders = ("--input", tmp_path / "mask", "--source", source, "--output", tmp_path / "out")
        return main(DicomWriter(), [str(a) for a in (*folders, *arguments)], {}, name="dicom-writer")

    return run


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_results_are_chosen_by_name(command, tmp_path):
    assert command("--results", "series,seg, labelmap") == 0
    assert names(tmp_path / "out") == ["1.2.3.2.labelmap.dcm", "1.2.3.2.seg.dcm", "1.2.3.2.series"]


def test_they_are_named_in_one_order_and_once():
    assert kinds_named("seg,series,seg,labelmap") == ("seg", "labelmap", "series")


@pytest.mark.parametrize("name", RESULT_KINDS)
def test_each_kind_calls_itself_what_it_is_asked_for_by(name):
    assert RESULT_KINDS[name].name == name


def test_a_volume_is_not_written_beside_results_of_a_mask():
    with pytest.raises(SettingsError, match="volume is of a CT volume, the others of a mask"):
        kinds_named("seg,volume")


@pytest.mark.parametrize("text", ["", "seg,dose", ","])
def test_a_result_that_there_is_not_is_refused(text):
    with pytest.raises(SettingsError, match=r"choose from seg,labelmap,series"):
        kinds_named(text)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--results", "segs"], "there is no result 'segs'"),
        (["--labels", "none.yaml"], "cannot read the labels none.yaml"),
        (["--compression", "rle"], "RLE does not take"),
        (["--algorithm-name", "x" * 65], "at most 64 ASCII characters"),
    ],
)
def test_arguments_that_cannot_be_met_end_with_2_and_write_nothing(
    command, tmp_path, capfd, caplog, arguments, said
):
    assert command(*arguments) == 2
    assert said in caplog.text + capfd.readouterr().err
    assert not list(tmp_path.glob("out/*"))


def test_labels_and_frames_are_as_told(command, tmp_path):
    labels = tmp_path / "labels.yaml"
    labels.write_text(
        "labels:\n"
        '- {value: 1, name: Spleen, type: {value: "78961009", meaning: Spleen}, rgb: "#9d6ca2"}\n'
        '- {value: 2, name: Cyst, type: {value: "367643001", meaning: Cyst}, rgb: "#ff0000"}\n'
    )
    assert command("--labels", labels, "--keep-empty-frames", "--compression", "deflate") == 0
    dataset = pydicom.dcmread(tmp_path / "out/1.2.3.2.seg.dcm")
    assert [s.SegmentLabel for s in dataset.SegmentSequence] == ["Spleen", "Cyst"]
    assert dataset.NumberOfFrames == 10
    assert dataset.ContentDescription == "Spleen and cyst"
