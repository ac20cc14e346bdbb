import subprocess
import sys
from pathlib import Path

import pytest

import clara_wf
from dicom_adapter.config.load import examine, load_config, unpublished
from dicom_adapter.config.values import JOB_PROCESSOR
from stages.errors import SettingsError

SHIPPED = Path(clara_wf.__file__).parents[1] / "clara-platform/files/dicom-server-config.yaml"
LIVER_SEG = "fd3ee8bf-b9f3-4808-bd60-243f870ff9bd"
SMALL = f"""
dicom:
  scp:
    ae-titles:
      - ae-title: CT_AI
    reject-unknown-sources: false
  scu:
    destinations:
      - {{name: PACS, host-ip: 10.0.0.1, port: 11112, ae-title: PACS}}
workflows:
  - {{name: liver, clara-ae-title: CT_AI, destination-name: PACS, workflow: {LIVER_SEG}}}
"""


@pytest.fixture
def config(tmp_path):
    def write(text):
        file = tmp_path / "config.yaml"
        file.write_text(text)
        return file

    return write


def test_shipped_file_is_right():
    config, findings = examine(SHIPPED)
    assert findings == []
    assert config.dicom.scp.ae_titles[0].processors == (JOB_PROCESSOR,)
    assert config.workflows[0].workflow == LIVER_SEG


def test_the_established_processor_is_taken_as_one_string_or_in_a_list(config):
    for written in (f'"{JOB_PROCESSOR}"', f'["{JOB_PROCESSOR}"]'):
        file = config(
            SMALL.replace("ae-title: CT_AI\n", f"ae-title: CT_AI\n        processors: {written}\n", 1)
        )
        assert load_config(file).dicom.scp.ae_titles[0].processors == (JOB_PROCESSOR,)


def test_what_is_left_out_has_defaults(config):
    found = load_config(config(SMALL))
    title = found.dicom.scp.ae_titles[0]
    assert (title.complete, title.quiet_seconds, title.late) == ("quiet", 10.0, "rerun")
    assert found.dicom.scp.port == 104
    assert found.storage.root == Path("/clara-io/clara-core/dicom-adapter")
    assert (found.http.host, found.jobs.at_once) == ("127.0.0.1", 1)


@pytest.mark.parametrize(
    ("old", "new", "line", "told"),
    [
        ("ae-title: CT_AI\n", "ae-title: A-NAME-OF-17-CHARS\n", 5, "is no application entity title"),
        ("ae-title: CT_AI\n", 'ae-title: "CT\\\\AI"\n', 5, "no backslash"),
        ("ae-titles", "ae-title", 4, "write 'ae-titles'"),
        ("host-ip: 10.0.0.1, ", "", 9, "has no address"),
        ("port: 11112", "port: 99999", 9, "less than or equal to 65535"),
        ("port: 11112", "port: 2020-13-45", 9, "a value that cannot be read"),
        ("CT_AI\n", "CT_AI\n        quiet-seconds: 1e9\n", 6, "less than or equal to 31536000"),
        ("destination-name: PACS", "destination-name: PACK", 11, "there are: PACS"),
        ("clara-ae-title: CT_AI", "clara-ae-title: MR_AI", 11, "there are: CT_AI"),
        (LIVER_SEG, "liver-seg", 11, "is no ID of a workflow"),
        ("reject-unknown-sources: false", "reject-unknown-sources: true", 6, "everybody is rejected"),
        ("    reject-unknown-sources: false", "    reject-unknown-sources: no!", 6, "true or false"),
        ("    reject-unknown", "    blank-called-as: NOBODY\n    reject-unknown", 6, "there are: CT_AI"),
        ("    reject-unknown", '    blank-calling-as: "A\\\\B"\n    reject-unknown', 6, "no backslash"),
        ("    reject-unknown", "    port: 8080\n    reject-unknown", 6, "8080 is the port of http as well"),
        ("    reject-unknown", "    least-rate: slow\n    reject-unknown", 6, "expected a size"),
        *(
            ("    reject-", f"    sources: [{{ae-title: A, host-ip: '{each}'}}]\n    reject-", 6, told)
            for each, told in {
                "scanner1.hospital": "no name",
                "192.0.2.0/24": "no network",
                "999.1.1.1": "is no IP address",
            }.items()
        ),
        *(
            ("CT_AI\n", f"CT_AI\n        filter: {{{written}}}\n", 6, told)
            for written, told in {
                "sop-classes: CT Image Storage": "is no UID of a SOP class",
                "sop-classes: [1.2.840.x]": "is no UID of a SOP class",
                "modalities: [CT, mr]": "'mr' is no modality",
            }.items()
        ),
        ("workflows:", "storage: {received: ''}\nworkflows:", 10, "it is empty"),
        ("    reject-unknown", "    max-waiting: 0\n    reject-unknown", 6, "greater than or equal to 1"),
    ],
)
def test_mistake_is_told_with_its_line_and_what_to_write(config, old, new, line, told):
    assert old in SMALL
    _, findings = examine(config(SMALL.replace(old, new, 1)))
    assert [finding.line for finding in findings if told in str(finding)] == [line]


@pytest.mark.parametrize(
    ("written", "meant"),
    [("FE80::0001", "fe80::1"), ("::ffff:192.0.2.10", "192.0.2.10"), (" 192.0.2.10 ", "192.0.2.10")],
)
def test_address_of_a_source_is_that_of_its_callers_however_it_is_written(config, written, meant):
    sources = f"    sources: [{{ae-title: A, host-ip: '{written}'}}]\n    reject-unknown"
    found = load_config(config(SMALL.replace("    reject-unknown", sources, 1)))
    assert found.dicom.scp.sources[0].host_ip == meant


def test_all_mistakes_are_told_at_once(config):
    text = SMALL.replace("11112", "no").replace("ae-title: CT_AI\n", "aetitle: X\n", 1)
    with pytest.raises(SettingsError) as told:
        load_config(config(text + "jobs: {at-once: 0}\nhttp: {prot: 1}\n"))
    assert len(str(told.value).splitlines()) == 5  # a key missing, one unknown, port, at-once, prot


def test_status_page_off_the_loopback_needs_a_token(config):
    _, findings = examine(config(SMALL + "http: {host: 0.0.0.0}\n"))
    assert "add token-file" in str(findings[0])
    assert examine(config(SMALL + "http: {host: 0.0.0.0, token-file: /run/token}\n"))[1] == []


def test_sizes_are_written_with_their_unit(config):
    found = load_config(config(SMALL + "storage: {minimum-free: 1.5G}\n"))
    assert found.storage.minimum_free == 1536 << 20
    _, findings = examine(config(SMALL + "storage: {minimum-free: lots}\n"))
    assert "such as 2G" in str(findings[0])


@pytest.mark.parametrize(
    ("written", "mode"), [("'0640'", 0o640), ("0640", 0o640), ("'0o600'", 0o600), ("'664'", 0o664)]
)
def test_permissions_are_octal_however_they_are_written(config, written, mode):
    assert load_config(config(f"{SMALL}storage: {{permissions: {written}}}")).storage.permissions == mode


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("permissions", "'0750'", "nobody executes"),
        ("permissions", "'0440'", "the owner reads and writes"),
        ("permissions", "rw-r-----", "write an octal number in quotes"),
        ("permissions", "true", "write an octal number in quotes"),
        ("job-input", "symlink", "copy"),
        ("largest-instance", "1K", "1048576"),
        ("largest-instance", "5G", "4294967296"),
    ],
)
def test_a_setting_of_the_storage_that_cannot_be_is_told_with_its_line(config, key, value, told):
    with pytest.raises(SettingsError, match=rf"config.yaml:\d+.*{told}"):
        load_config(config(f"{SMALL}storage: {{{key}: {value}}}"))


def test_workflow_that_is_not_published_is_a_warning(config, tmp_path):
    file = config(SMALL + f"storage: {{workflows: {tmp_path}}}\n")
    found = unpublished(load_config(file), file)
    assert [each.severity for each in found] == ["warning"]
    assert f"clara-wf publish {LIVER_SEG}" in str(found[0])


def test_lint_checks_it_as_well_and_workflows_against_what_is_published(config, tmp_path):
    def lint(file):
        command = [sys.executable, "-m", "clara_wf", "lint", file]
        return subprocess.run(command, capture_output=True, text=True)

    good = lint(SHIPPED)
    assert (good.returncode, "no mistake found" in good.stdout) == (0, True)
    file = config(SMALL.replace("port: 11112", "port: no") + "http: {prot: 1}\n")
    bad = lint(file)
    assert bad.returncode == 2
    assert "config.yaml:9:" in bad.stdout
    assert "write 'port'" in bad.stdout
    warned = lint(config(SMALL + f"storage: {{workflows: {tmp_path}}}\n"))
    assert warned.returncode == 0
    assert f"warning: workflows[0].workflow: {LIVER_SEG} is not published" in warned.stdout
