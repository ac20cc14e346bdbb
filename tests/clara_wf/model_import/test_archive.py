"""Archives are unpacked within bounds."""

import stat
import zipfile

import pytest

from clara_wf.model_import.archive import is_archive, unpack, unpacked
from stages.errors import InputError


@pytest.fixture
def into(tmp_path):
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


def archive(path, content, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as made:
        for name, each in content.items():
            made.writestr(name, each)
    return path


def test_its_only_folder_is_what_it_holds(tmp_path, into):
    path = archive(tmp_path / "a.zip", {"bundle/configs/a.json": "{}", "bundle/models/m": b"x" * 100})
    folder = unpack(path, into)
    assert folder.name == "bundle"
    assert (folder / "models/m").read_bytes() == b"x" * 100


def test_what_was_unpacked_goes_again(tmp_path, into):
    path = archive(tmp_path / "spleen.zip", {"configs/a.json": "{}"})
    with unpacked(path, into) as folder:
        assert folder.name == "spleen"
        assert (folder / "configs/a.json").is_file()
    assert not folder.exists()


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, into):
    path = archive(tmp_path / "bomb.zip", {"models/model.pt": bytes(200 << 20)})
    assert path.stat().st_size < 1 << 20
    with pytest.raises(InputError, match="would unpack to 209715200 bytes"):
        unpack(path, into)
    assert list(into.iterdir()) == []


def test_a_size_that_is_understated_is_not_exceeded(tmp_path, into):
    path = archive(tmp_path / "lie.zip", {"a": bytes(100_000)})
    content = path.read_bytes().replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(content)
    with pytest.raises(InputError, match="is damaged"):
        unpack(path, into)


@pytest.mark.parametrize("name", ["../out", "/abs", "a/../../out", "a\\..\\out"])
def test_names_that_lead_out_are_refused(tmp_path, into, name):
    with pytest.raises(InputError, match="leads out of it or is a link"):
        unpack(archive(tmp_path / "a.zip", {name: "x"}), into)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a.zip", into]


def test_links_are_refused(tmp_path, into):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        entry = zipfile.ZipInfo("link")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        made.writestr(entry, "/etc/passwd")
    with pytest.raises(InputError, match="leads out of it or is a link"):
        unpack(tmp_path / "a.zip", into)


def test_a_damaged_one_is_refused(tmp_path, into):
    path = archive(tmp_path / "a.zip", {"a": b"abc" * 1000}, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"abcabc", b"abdabc", 1))
    with pytest.raises(InputError, match="is damaged"):
        unpack(path, into)


def test_other_files_are_none(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04")
    assert not is_archive(tmp_path / "a.zip")
