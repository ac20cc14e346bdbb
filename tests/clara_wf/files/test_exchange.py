"""A folder beside a model repository, in which a model is made."""

from clara_wf.files.exchange import made_beside, put


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
