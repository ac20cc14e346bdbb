"""Which series becomes the volume, by which rule, and why the others do not."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_reader import read_all_series, read_series
from dicom_reader.explain import explain
from dicom_reader.files.folder import scan_folder
from dicom_reader.read import judge_folder
from dicom_reader.selection.rules import Rules, read_rules
from dicom_reader.selection.select import require_taken, select_series
from dicom_reader.series.series import group_by_series
from stages import InputError, SettingsError
from tests import phantoms

ROOT = Path(__file__).parents[3]
CORONAL = (1, 0, 0, 0, 0, -1)


def judge(folder, rules=None, **how):
    """Return the name of each series taken, and what is said of every one."""
    rules = None if rules is None else Rules.model_validate(rules)
    verdicts = select_series(group_by_series(scan_folder(folder).headers), rules, **how)
    return [s.name for s in require_taken(verdicts, rules)], {v.series.name: str(v) for v in verdicts}


def series(folder, uid, shape=(5, 8, 8), **attributes):
    return phantoms.save(phantoms.ct_slices(shape, series=uid, **attributes), folder / uid)


def test_the_series_with_most_axial_slices_is_chosen(tmp_path):
    series(tmp_path, "1.1", (3, 8, 8))
    series(tmp_path, "1.2")
    phantoms.save(phantoms.mr_slices(9), tmp_path / "mr")
    assert judge(tmp_path) == (
        ["1.2"],
        {
            "1.1": "not chosen, fewer slices: 3 axial CT slices",
            "1.2": "chosen: 5 axial CT slices",
            "1.2.3.5": "not chosen, no CT slices: 9 MR",
        },
    )


def test_of_equal_series_the_lower_series_number_is_chosen_and_the_tie_is_told(tmp_path):
    for uid, number in (("1.7", 2), ("1.5", 9), ("1.6", 10)):
        series(tmp_path, uid, SeriesNumber=number)
    taken, why = judge(tmp_path)
    assert taken == ["1.7"]
    assert why["1.7"] == (
        "chosen, first of 3 that are equal by stack, primary, soft-kernel, most-slices, thinnest, by the "
        "lower Series Number (0020,0011): 5 axial CT slices"
    )
    assert why["1.5"] == "not chosen, of a higher series number: 5 axial CT slices"


def test_of_one_series_number_the_earlier_acquisition_is_chosen(tmp_path):
    series(tmp_path, "1.5", AcquisitionTime="101500")
    series(tmp_path, "1.7", AcquisitionTime="093000")
    taken, why = judge(tmp_path)
    assert taken == ["1.7"]
    assert why["1.5"] == "not chosen, acquired later: 5 axial CT slices"


def test_series_that_are_equal_in_all_that_decides_are_refused_not_chosen_by_uid(tmp_path):
    for uid in ("1.5", "1.6", "1.7"):
        series(tmp_path, uid)
    message = r"series 1\.5 and 1\.6 \(and 1 more\) are equal in all that decides, .*name one with --series"
    with pytest.raises(InputError, match=message):
        read_series(tmp_path)
    assert read_series(tmp_path, series_instance_uid="1.6").origin.series_instance_uid == "1.6"
    assert len(list(read_all_series(tmp_path))) == 3


@pytest.mark.parametrize(
    ("kernel", "is_for_bone_or_lung"),
    [
        ("B30f", False), ("B60f", True), ("B70f", True), ("Br38f\\3", False), ("Br64s", True), ("Bl57", True),
        ("I31f", False), ("STANDARD", False), ("SOFT", False), ("BONEPLUS", True), ("LUNG", True),
        ("EDGE", True), ("FC08", False), ("FC18", False), ("FC51", True), ("FC30", True), ("B", False),
        ("C", False), ("L", True), ("YB", True), ("", False), ("UNKNOWN-7", False),
    ],
)  # fmt: skip
def test_kernels_for_bone_and_lung_are_known_by_the_names_of_the_scanners(kernel, is_for_bone_or_lung):
    from dicom_reader.selection.preferences import is_sharp

    assert is_sharp(kernel) == is_for_bone_or_lung


def test_a_soft_kernel_goes_before_one_for_bone_that_has_more_slices(tmp_path):
    series(tmp_path, "1.1", (9, 8, 8), ConvolutionKernel="BONE")
    series(tmp_path, "1.2", ConvolutionKernel="STANDARD")
    taken, why = judge(tmp_path)
    assert taken == ["1.2"]
    assert why["1.1"] == "not chosen, of a kernel for bone or lung: 9 axial CT slices"


def test_of_as_many_slices_the_thinner_are_chosen(tmp_path):
    series(tmp_path, "1.1", spacing=(5.0, 0.8, 0.6))
    series(tmp_path, "1.2")
    assert judge(tmp_path)[0] == ["1.2"]


def test_slices_that_watch_the_contrast_at_one_place_go_behind_a_scan_for_lung(tmp_path):
    watching = phantoms.ct_slices((9, 8, 8), series="1.1", ConvolutionKernel="B20f")
    for n, ds in enumerate(watching):
        ds.ImagePositionPatient, ds.AcquisitionTime = [-30, 40, 100], f"1000{n:02}"
    phantoms.save(watching, tmp_path / "1.1")
    series(tmp_path, "1.2", ConvolutionKernel="B60f")
    taken, why = judge(tmp_path)
    assert taken == ["1.2"]
    assert why["1.1"] == "not chosen, at fewer than 3 positions: 9 axial CT slices"


def test_a_primary_series_is_preferred_to_a_larger_secondary_one(tmp_path):
    series(tmp_path, "1.1", (3, 8, 8))
    series(tmp_path, "1.2", ImageType=["ORIGINAL", "SECONDARY", "AXIAL"])
    taken, why = judge(tmp_path)
    assert taken == ["1.1"]
    assert why["1.2"] == "not chosen, not primary: 5 axial CT slices"


def test_a_series_can_be_asked_for_whatever_the_default_rules_say(tmp_path):
    series(tmp_path, "1.5")
    series(tmp_path, "1.6", orientation=CORONAL, ImageType=["DERIVED", "SECONDARY"])
    assert read_series(tmp_path, series_instance_uid="1.6").origin.series_instance_uid == "1.6"
    message = (
        r"no series of the input folder passes the rules; of 2 series: 2 dropped by arguments; --explain"
    )
    with pytest.raises(InputError, match=message):
        read_series(tmp_path, series_instance_uid="1.8")


def test_a_localizer_in_the_series_is_left_out(tmp_path):
    slices = [*phantoms.ct_slices(), phantoms.localizer(series=phantoms.SERIES)]
    slices[-1].SOPInstanceUID = "1.2.99"
    phantoms.save(slices, tmp_path)
    taken, why = judge(tmp_path)
    assert taken == [phantoms.SERIES]
    assert why == {phantoms.SERIES: "chosen: 5 axial CT slices and 1 CT localizer, the latter left out"}


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "CT screen capture"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.2"}, "CT screen capture"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.128"}, "CT of SOP class 1.2.840.10008.5.1.4.1.1.128"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "CT localizer"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "CT dose screen"),
        ({"SeriesDescription": "Dose Report"}, "CT dose screen"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "derived CT"),
        ({"SamplesPerPixel": 3}, "CT in colour"),
        ({"RescaleType": "OD"}, "CT in OD instead of Hounsfield units"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "CT more than 35 degrees from axial"),
        ({"Modality": "PT"}, "PT"),
    ],
)
def test_what_is_no_axial_primary_ct_is_dropped_and_named(tmp_path, attributes, kind):
    phantoms.save(phantoms.ct_slices(**attributes), tmp_path)
    with pytest.raises(
        InputError, match=f"no axial CT series in the input folder; found 1 series: 1 {kind}; --explain"
    ):
        read_series(tmp_path)


def test_the_error_says_what_was_found_instead(tmp_path):
    phantoms.save(phantoms.mr_slices(), tmp_path / "1")
    phantoms.save(phantoms.mr_slices(series="1.2.8"), tmp_path / "2")
    phantoms.save([phantoms.localizer()], tmp_path / "3")
    with pytest.raises(InputError, match=r"found 3 series: 2 MR, 1 CT localizer"):
        read_series(tmp_path)


# rules


@pytest.fixture
def two(tmp_path):
    """A venous series of 5 slices, 2.5 mm apart, and a lung series of 9 that are 1 mm apart."""
    series(
        tmp_path,
        "1.1",
        SeriesDescription="Abdomen venös",
        SpecificCharacterSet="ISO_IR 100",
        ConvolutionKernel=["Br38f", "3"],
        BodyPartExamined="ABDOMEN",
        AcquisitionDate="20240131",
    )
    series(
        tmp_path,
        "1.2",
        (9, 8, 8),
        spacing=(1.0, 0.8, 0.6),
        SeriesDescription="Lung",
        ConvolutionKernel="Bl57",
        BodyPartExamined="CHEST",
        AcquisitionDate="20240201",
        ImageType=["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"],
    )
    return tmp_path


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ({"description": "(?i)VENÖS"}, "description does not match '(?i)VENÖS'"),
        ({"kernel": "^Br"}, "kernel does not match '^Br'"),
        ({"body_part": ["abdomen", "LIVER"]}, "body_part is CHEST, not abdomen or LIVER"),
        ({"slices": {"max": 8}}, "9 slices, not at most 8"),
        ({"spacing_mm": {"min": 2, "max": 3}}, "spacing is 1.00 mm, not at least 2 and at most 3"),
        ({"date": {"to": "2024-01-31"}}, "date is not to 20240131"),
        ({"series_uid": "1.1"}, "series_uid is 1.2, not 1.1"),
        ({"not": {"image_type": "CT_SOM5 SPI"}}, "what is excluded by 'not' holds"),
        (
            {"any": [{"slices": {"max": 1}}, {"kernel": "Br"}]},
            "none of: 9 slices, not at most 1; kernel does not match 'Br'",
        ),
        ({"all": [{"modality": "CT"}, {"kernel": "Br"}]}, "kernel does not match 'Br'"),
    ],
)
def test_each_condition_takes_one_series_and_says_why_not_the_other(two, condition, why):
    taken, said = judge(two, {"rules": [{"name": "mine", "take": condition}]}, take_all=True)
    assert taken == ["1.1"]
    assert said["1.2"] == f"not chosen, rule 'mine': {why}: 9 axial CT slices"
    assert judge(two, {"rules": [{"name": "mine", "drop": condition}]}, take_all=True)[0] == ["1.2"]


def test_an_earlier_rule_goes_before_a_later_one_and_before_every_preference(two):
    venous = {"name": "venous", "take": {"description": "ven"}}
    rest = {"name": "any other", "take": {"modality": "CT"}}
    taken, said = judge(two, {"rules": [venous, rest]})
    assert taken == ["1.1"]
    assert said["1.2"] == "not chosen, taken by a later rule: 9 axial CT slices"
    lung = {"name": "lung", "take": {"kernel": "^Bl"}}
    assert judge(two, {"rules": [lung, rest]})[0] == ["1.2"]


@pytest.mark.parametrize(
    ("preference", "best"),
    [
        ("most-slices", "1.2"),
        ("fewest-slices", "1.1"),
        ("thinnest", "1.2"),
        ("thickest", "1.1"),
        ("longest", "1.1"),  # 4 x 2.5 mm and 8 x 1 mm
        ("newest", "1.2"),
        ("oldest", "1.1"),
    ],
)
def test_each_preference_has_its_best(two, preference, best):
    assert judge(two, {"prefer": [preference]})[0] == [best]


@pytest.mark.parametrize(
    ("orientation", "taken"), [("coronal", True), ("sagittal", False), ("axial", False), ("any", True)]
)
def test_a_rule_about_orientation_replaces_the_default_one(tmp_path, orientation, taken):
    series(tmp_path, "1.1", orientation=CORONAL)
    rules = {"require": {"orientation": orientation}}
    if taken:
        assert judge(tmp_path, rules)[1] == {"1.1": "chosen: 5 coronal CT slices"}
    else:
        with pytest.raises(InputError, match="1 dropped by arguments"):
            judge(tmp_path, rules)


def test_the_angle_of_an_orientation_is_held(tmp_path):
    from math import cos, radians, sin

    tilted = (1, 0, 0, 0, cos(radians(20)), sin(radians(20)))
    series(tmp_path, "1.1", orientation=tilted)
    within = {"require": {"orientation": {"plane": "axial", "within_degrees": 21}}}
    assert judge(tmp_path, within)[0] == ["1.1"]
    within["require"]["orientation"]["within_degrees"] = 19
    with pytest.raises(InputError, match="passes the rules"):
        judge(tmp_path, within)


def test_a_rule_about_the_image_type_replaces_the_default_one_about_derived_series(tmp_path):
    series(tmp_path, "1.1", ImageType=["DERIVED", "SECONDARY", "MPR"])
    assert judge(tmp_path, {"require": {"image_type": "mpr"}})[0] == ["1.1"]
    assert judge(tmp_path, {"require": {"image_type": "any"}})[0] == ["1.1"]


def test_slices_of_unknown_orientation_are_for_the_geometry_gate_to_refuse_by_name(tmp_path):
    series(tmp_path, "1.1", ImageOrientationPatient=None)
    with pytest.raises(InputError, match=r"IM\d+: Image Orientation \(Patient\) \(0020,0037\) is missing"):
        read_series(tmp_path)


def test_rules_cost_no_import_where_there_are_none():
    code = "import sys, dicom_reader.__main__; assert 'pydantic' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# files of rules


def test_rules_are_read_from_yaml(tmp_path, two):
    path = tmp_path / "rules.yaml"
    path.write_text(
        """
rules:
  - name: no lung kernel
    drop: {kernel: "^B[l67]"}
  - name: abdomen
    take:
      body_part: ABDOMEN
      date: {from: 2024-01-01}
      not: {slices: {max: 4}}
prefer: [thinnest]
"""
    )
    rules = read_rules(path)
    assert judge(two, rules.model_dump(by_alias=True, exclude_unset=True))[0] == ["1.1"]
    assert read_series(two, rules=rules).origin.selection["1.2"] == (
        "not chosen, rule 'no lung kernel': 9 axial CT slices"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules: [{name: a, take: {kernal: x}}]", r"rules\.0\.take\.kernal: Extra inputs are not permitted"),
        (
            "rules: [{name: a, take: {kernel: '('}}]",
            r"rules\.0\.take\.kernel: no regular expression: missing \)",
        ),
        ("rules: [{name: a, take: {}}]", r"rules\.0\.take: a condition without a key would take everything"),
        ("rules: [{name: a}]", r"rules\.0: a rule has either take or drop"),
        ("rules: [{take: {kernel: x}}]", r"rules\.0\.name: Field required"),
        ("rules: [{name: a, take: {slices: {min: 9, max: 2}}}]", r"slices: min 9 is more than max 2"),
        ("rules: [{name: a, take: {slices: {}}}]", r"slices: give min, max or both"),
        ("rules: [{name: a, take: {slices: {min: many}}}]", r"slices\.min: Input should be a valid number"),
        (
            "rules: [{name: a, take: {date: {from: 31.1.2024}}}]",
            r"date\.from: a date is written as YYYY-MM-DD",
        ),
        ("rules: [{name: a, take: {date: {}}}]", r"date: give from, to or both"),
        ("rules: [{name: a, take: {orientation: round}}]", r"orientation\.plane: Input should be 'axial'"),
        ("prefer: [nicest]", r"prefer\.0: Input should be 'stack', 'primary'"),
        (
            "prefer: [thinnest]\nrules: [{name: a, take: {x: 1}}, {name: b}]",
            r"take\.x: Extra.*; rules\.1: a rule has",
        ),
        ("- a list", r"need the key 'rules', 'prefer' or both"),
        ("a: [", r"are no YAML: .*line 1"),
    ],
)
def test_every_mistake_in_a_file_of_rules_is_named_with_its_place(tmp_path, text, message):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(SettingsError, match=message) as refused:
        read_rules(tmp_path / "r.yaml")
    assert "r.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_of_rules_that_is_not_there_is_a_settings_error(tmp_path):
    with pytest.raises(SettingsError, match=r"cannot read the rules .*none\.yaml: No such file"):
        read_rules(tmp_path / "none.yaml")


PAGE = ROOT / "docs/reference/select.md"


def test_every_key_preference_and_option_is_in_the_reference():
    import argparse
    from typing import get_args

    from dicom_reader.arguments import add_arguments
    from dicom_reader.selection.conditions import Condition
    from dicom_reader.selection.rules import Preference

    page = PAGE.read_text(encoding="utf-8")
    keys = [field.alias or name for name, field in Condition.model_fields.items()]
    assert [key for key in (*keys, *get_args(Preference)) if f"`{key}`" not in page] == []
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    assert [option for option in parser._option_string_actions if option not in page] == []


def test_the_rules_of_the_reference_are_read_as_they_stand(tmp_path, two):
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "rules.yaml").write_text(text, encoding="utf-8")
    rules = read_rules(tmp_path / "rules.yaml")
    assert [rule.name for rule in rules.rules] == ["no lung kernel", "portal venous", "any other abdomen"]
    taken, why = judge(two, rules.model_dump(by_alias=True, exclude_unset=True))
    assert taken == ["1.1"]
    assert why["1.2"].startswith("not chosen, rule 'no lung kernel'")


# several volumes in one series


def phases(count=2, *, series_uid="1.9", **attributes):
    """Return one series of several volumes at the same positions; keyword -> a value for each volume."""
    found = []
    for n in range(count):
        slices = phantoms.ct_slices((4, 8, 8), series=series_uid)
        for k, ds in enumerate(slices):
            ds.SOPInstanceUID = f"{series_uid}.{n}.{k}"
            ds.PixelData = bytes([n + 1]) * len(ds.PixelData)
            ds.InstanceNumber = 1
            for keyword, values in attributes.items():
                value = values[n]
                setattr(ds, keyword, value(k) if callable(value) else value)
        found += slices
    return found


@pytest.mark.parametrize(
    ("attributes", "names"),
    [
        ({"AcquisitionNumber": (3, 12)}, ["acquisition-3", "acquisition-12"]),
        ({"TemporalPositionIdentifier": (1, 2)}, ["phase-1", "phase-2"]),
        ({"StackID": ("A", "B")}, ["stack-1", "stack-2"]),
        ({"ConvolutionKernel": ("B30f", "B60f")}, ["kernel-1", "kernel-2"]),
        ({"ContentTime": (lambda k: f"1000{k:02}", lambda k: f"1010{k:02}.5")}, ["phase-1", "phase-2"]),
        ({"InstanceNumber": (lambda k: 4 - k, lambda k: 5 + k)}, ["phase-1", "phase-2"]),
    ],
)
def test_phases_of_one_series_are_told_apart_and_named(tmp_path, attributes, names):
    phantoms.save(phases(**attributes), tmp_path)
    taken, why = judge(tmp_path, take_all=True)
    assert set(taken) == {f"1.9_{name}" for name in names}
    assert set(why.values()) == {"chosen: 4 axial CT slices"}
    volumes = {v.origin.file_name: v for v in read_all_series(tmp_path)}
    assert set(volumes) == set(taken)
    for n, name in enumerate(names):
        assert {s.sop_instance_uid for s in volumes[f"1.9_{name}"].origin.slices} == {
            f"1.9.{n}.{k}" for k in range(4)
        }


BY_TWO = [
    "acquisition-1-kernel-1",
    "acquisition-1-kernel-2",
    "acquisition-2-kernel-1",
    "acquisition-2-kernel-2",
]


@pytest.mark.parametrize(
    ("attributes", "names"),
    [
        ({"ConvolutionKernel": ("B30f", "B60f", "B30f", "B60f")}, BY_TWO),
        (
            {"InstanceNumber": tuple(lambda k, n=n: 4 * (n % 2) + k for n in range(4))},
            [f"acquisition-{a}-phase-{p}" for a in (1, 2) for p in (1, 2)],
        ),
    ],
    ids=["labels", "label and counter"],
)
def test_volumes_that_only_two_attributes_together_tell_apart_are_named_after_both(
    tmp_path, attributes, names
):
    slices = phases(4, AcquisitionNumber=(1, 1, 2, 2), **attributes)
    phantoms.save(slices, tmp_path)
    volumes = {v.origin.file_name: v for v in read_all_series(tmp_path)}
    assert sorted(volumes) == [f"1.9_{name}" for name in names]
    for n, name in enumerate(names):
        assert {s.sop_instance_uid for s in volumes[f"1.9_{name}"].origin.slices} == {
            f"1.9.{n}.{k}" for k in range(4)
        }


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"InstanceNumber": (lambda k: 2 * k, lambda k: 2 * k + 1)},  # one position after the other
        {"AcquisitionNumber": (lambda k: k % 3, 7)},
    ],
    ids=["nothing", "interleaved", "no whole parts"],
)
def test_phases_that_nothing_tells_apart_are_refused(tmp_path, attributes):
    phantoms.save(phases(**attributes), tmp_path)
    with pytest.raises(InputError, match=r"lie at the same position, 0\.000 mm apart \(4 such pairs\)"):
        read_series(tmp_path)


def test_stacks_of_two_orientations_in_one_series_are_split_and_the_rules_choose(tmp_path):
    slices = [*phantoms.ct_slices((4, 8, 8)), *phantoms.ct_slices((6, 8, 8), orientation=CORONAL)]
    for n, ds in enumerate(slices):
        ds.SOPInstanceUID = f"1.7.{n}"
    phantoms.save(slices, tmp_path)
    taken, why = judge(tmp_path)
    assert taken == ["1.2.3.2_stack-2"]
    assert why["1.2.3.2_stack-1"] == ("not chosen, more than 35 degrees from axial: 6 coronal CT slices")


def test_two_regions_far_apart_are_split_where_an_acquisition_number_parts_them(tmp_path):
    slices = phantoms.ct_slices((9, 8, 8))
    for n, ds in enumerate(slices):
        ds.AcquisitionNumber = 1 if n < 5 else 2
        if n >= 5:
            ds.ImagePositionPatient = [-30, 40, 300 + 2.5 * n]
    phantoms.save(slices, tmp_path)
    assert judge(tmp_path)[0] == ["1.2.3.2_acquisition-1"]
    assert read_series(tmp_path).array.shape == (5, 8, 8)


def test_one_scan_in_two_acquisitions_stays_one_volume(tmp_path):
    slices = phantoms.ct_slices((8, 8, 8))
    for n, ds in enumerate(slices):
        ds.AcquisitionNumber = 1 if n < 4 else 2
        if n >= 4:
            ds.ImagePositionPatient = [-30, 40, 110 + 5.0 * (n - 4)]
    phantoms.save(slices, tmp_path)
    assert judge(tmp_path)[0] == ["1.2.3.2"]


def test_the_order_of_the_files_does_not_change_what_is_chosen(tmp_path):
    slices = phases(AcquisitionNumber=(3, 12))
    phantoms.save(slices, tmp_path / "a")
    phantoms.save(slices[::-1], tmp_path / "b")
    assert judge(tmp_path / "a") == judge(tmp_path / "b")


# all of them, and the command


def test_all_that_pass_are_read_the_best_first(two):
    volumes = list(read_all_series(two))
    assert [v.origin.series_instance_uid for v in volumes] == ["1.1", "1.2"]  # 1.2 has a kernel for lung
    assert volumes[0].origin.selection == {
        "1.1": "chosen: 5 axial CT slices",
        "1.2": "chosen: 9 axial CT slices",
    }


def test_a_refused_series_is_left_out_of_all_and_told(two, caplog):
    next((two / "1.2/deeper").iterdir()).unlink()
    volumes = list(read_all_series(two))
    assert [v.origin.series_instance_uid for v in volumes] == ["1.1"]
    assert "series 1.2 left out: slices" in caplog.text


def test_when_all_are_refused_the_first_reason_is_raised(tmp_path):
    for uid in ("1.1", "1.2"):
        phantoms.save([ds for n, ds in enumerate(phantoms.ct_slices(series=uid)) if n != 2], tmp_path / uid)
    with pytest.raises(InputError, match="may be missing"):
        list(read_all_series(tmp_path))


def run(*arguments):
    command = [sys.executable, "-m", "dicom_reader", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_explain_prints_every_series_with_its_rule_and_writes_nothing(two):
    phantoms.save([phantoms.localizer()], two / "scout")
    done = run("--input", two, "--explain", "--kernel", "^Br")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "3 series, 1 taken",
        "taken        1.1",
        "    rule: arguments",
        r'    5 axial CT slices, 2.50 mm apart, kernel Br38f\3, ABDOMEN, 20240131, "Abdomen venös"',
        "dropped      1.2",
        "    rule: arguments - kernel does not match '^Br'",
        '    9 axial CT slices, 1.00 mm apart, kernel Bl57, CHEST, 20240201, "Lung"',
        "dropped      1.2.3.4",
        "    rule: CT localizer (default) - no CT slices",
        "    1 CT localizer",
    ]
    for identity in ("Doe", "P-1", "19500101", "venös"):
        assert identity not in done.stderr
    assert "Doe" not in done.stdout


def test_the_command_writes_all_series_that_pass(two, tmp_path):
    out = tmp_path / "out"
    done = run("--input", two, "--output", out, "--all", "--max-spacing", "3", "--not-body-part", "HEAD")
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in out.glob("*.mhd")) == ["1.1.mhd", "1.2.mhd"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kernel", "("], r"arguments: require.all.0.kernel: no regular expression"),
        (["--min-slices", "9", "--max-slices", "2"], "min 9 is more than max 2"),
        (["--fill-missing", "-1"], "expected a number of slices, 0 or more, found '-1'"),
        (["--fill-missing", "x"], "expected a number of slices, 0 or more"),
        (["--select", "none.yaml"], "cannot read the rules none.yaml"),
    ],
)
def test_an_argument_that_cannot_be_used_ends_with_2_before_anything_is_read(tmp_path, arguments, message):
    done = run("--input", tmp_path / "nowhere", "--output", tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_without_output_and_without_explain_nothing_is_read(two):
    done = run("--input", two)
    assert done.returncode == 2
    assert "--input needs --output" in done.stderr


@pytest.mark.parametrize("charset", ["NONSENSE", "ISO 2022 IR 87"])
def test_a_broken_character_set_does_not_stop_a_rule(tmp_path, charset):
    folder = series(tmp_path, "1.1", SeriesDescription="Abdomen VEN")
    for path in (p for p in folder.rglob("IM*") if p.is_file()):
        data = path.read_bytes().replace(b"Abdomen VEN ", b"Abdom\xebn VEN ")
        ds = b"\x08\x00\x05\x00CS" + len(charset).to_bytes(2, "little") + charset.encode()
        start = data.index(b"\x08\x00\x08\x00CS")
        path.write_bytes(data[:start] + ds + data[start:])
    assert judge(tmp_path, {"require": {"description": "VEN$"}})[0] == ["1.1"]


def test_descriptions_are_explained_in_the_files_own_characters(two):
    assert any("venös" in line for line in explain(judge_folder(two)))
