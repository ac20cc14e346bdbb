"""In which requests a study is asked for."""

from dicom_adapter.retrieval.answers import SERIES_UID, SOP_INSTANCE, STUDY_UID, ListedInstance
from dicom_adapter.retrieval.levels import requests_for


def listed(series, count):
    return [
        ListedInstance(series_uid=series, sop_instance_uid=f"{series}.{n}", sop_class_uid="1.2")
        for n in range(count)
    ]


def asked(instances, missing, alone):
    found = requests_for("1.2.3", instances, missing, alone=alone)
    return [
        (each.level, each.values[SERIES_UID], each.values.get(SOP_INSTANCE), each.count) for each in found
    ]


def test_series_of_which_nothing_is_there_is_asked_for_as_a_whole():
    instances = listed("1.1", 3)
    missing = {each.sop_instance_uid for each in instances}
    assert asked(instances, missing, {"1.1"}) == [("SERIES", "1.1", None, 3)]
    (request,) = requests_for("1.2.3", instances, missing, alone={"1.1"})
    assert request.values[STUDY_UID] == "1.2.3"


def test_what_is_there_of_a_series_is_not_asked_for():
    instances = [*listed("1.1", 3), *listed("1.2", 2)]
    missing = {"1.1.0", "1.1.2", "1.2.0", "1.2.1"}
    assert asked(instances, missing, {"1.1", "1.2"}) == [
        ("IMAGE", "1.1", "1.1.0\\1.1.2", 2),
        ("SERIES", "1.2", None, 2),
    ]


def test_series_that_holds_more_than_what_is_asked_for_is_asked_for_by_instances():
    assert asked(listed("1.1", 2), {"1.1.0", "1.1.1"}, set()) == [("IMAGE", "1.1", "1.1.0\\1.1.1", 2)]


def test_uids_go_fifty_at_a_time():
    found = asked(listed("1.1", 121), {f"1.1.{n}" for n in range(1, 121)}, {"1.1"})
    assert [count for *_, count in found] == [50, 50, 20]


def test_series_that_is_whole_is_not_asked_for():
    assert asked(listed("1.1", 2), set(), {"1.1"}) == []
