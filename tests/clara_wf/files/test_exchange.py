"""Folders change places in one step."""

import threading

import pytest

from clara_wf.files.exchange import exchange, made_beside, put


@pytest.mark.parametrize("system_call", [True, False])
def test_folders_change_places(tmp_path, monkeypatch, system_call):
    if not system_call:
        monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: None)
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b/file").read_text() == "a"


def test_who_looks_while_a_model_is_replaced_always_sees_one(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    missed, ended = [], threading.Event()

    def look():
        while not ended.is_set():
            missed.extend([1] if not (tmp_path / "b/file").exists() else [])

    looking = threading.Thread(target=look)
    looking.start()
    for _ in range(300):
        exchange(tmp_path / "a", tmp_path / "b")
    ended.set()
    looking.join()
    assert missed == []


def test_a_folder_is_made_on_the_same_file_system_and_goes_in_the_end(tmp_path):
    target = tmp_path / "models"
    target.mkdir()
    with made_beside(target) as made:
        assert made.parent == tmp_path
        (made / "spleen").mkdir(mode=0o700)
        put(made / "spleen", target / "spleen")
    assert [path.name for path in tmp_path.rglob("*")] == ["models", "spleen"]
    assert (target / "spleen").stat().st_mode & 0o777 == 0o755


def test_what_a_killed_process_has_left_is_removed_and_what_another_makes_is_not(tmp_path):
    repository = tmp_path / "models"
    repository.mkdir()
    backup = tmp_path / ".models-20260101"
    with made_beside(repository) as other:
        left, halfway = (other.with_name(f"{other.name[:-8]}{name}") for name in ("killed00", "halfway0"))
        (left / "liver").mkdir(parents=True)
        (halfway / "liver.old").mkdir(parents=True)
        backup.mkdir()
        with made_beside(repository) as mine:
            assert sorted(tmp_path.iterdir()) == sorted([repository, backup, other, halfway, mine])
    assert sorted(tmp_path.iterdir()) == sorted([repository, backup, halfway])
