"""The chart of the platform: what it installs, and what its schema and its templates refuse."""

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from dicom_adapter.config.load import load_config
from tests.charts import rendering
from tests.charts.rendering import CURRENT_API, every_helm, one_helm, validate

ROOT = Path(__file__).parents[2]
PLATFORM = ROOT / "clara-platform"
LIVER_SEG = "fd3ee8bf-b9f3-4808-bd60-243f870ff9bd"
DIGEST = "sha256:" + "0" * 64
OLD_VALUES = {
    "adapter": {
        "enabled": True,
        "tokenSecret": "mine",
        "service": {"dicom": 11112, "http": 9090},
        "config": {
            "dicom": {
                "scp": {"port": 11112, "ae-titles": [{"ae-title": "CT_AI"}], "reject-unknown-sources": False}
            },
            "http": {"host": "0.0.0.0", "port": 9090, "token-file": "/run/clara/token"},
            "jobs": {"engine": "kubernetes"},
        },
    }
}

template = partial(rendering.template, chart=PLATFORM, release="site")
_rendered = {}


def rendered(helm, values, folder, *options, **more):
    """Return the manifests by kind and name; the same values are rendered once."""
    key = json.dumps([helm, values, options, more])
    if key not in _rendered:
        code, manifests, errors = template(helm, values, folder, *options, **more)
        assert code == 0, errors
        _rendered[key] = {(each["kind"], each["metadata"]["name"]): each for each in manifests if each}
    return _rendered[key]


def adapter(**values):
    return {"adapter": {"enabled": True, **values}}


def with_config(**config):
    scp = {"ae-titles": [{"ae-title": "CT_AI"}], "reject-unknown-sources": False}
    return adapter(config={"dicom": {"scp": scp}, **config})


def pod_of(manifests, component="adapter"):
    return manifests["Deployment", f"site-{component}"]["spec"]["template"]["spec"]


def container_of(manifests, component="adapter"):
    (container,) = pod_of(manifests, component)["containers"]
    return container


def config_text(manifests):
    return manifests["ConfigMap", "site-dicom"]["data"]["dicom-server-config.yaml"]


def loaded(manifests, folder):
    """Return the configuration as the adapter reads it, which takes no file with a mistake."""
    file = folder / "dicom-server-config.yaml"
    file.write_text(config_text(manifests))
    return load_config(file)


# What is installed


@every_helm
def test_helm_lint_finds_nothing(helm):
    done = subprocess.run([helm, "lint", "--strict", str(PLATFORM)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout + done.stderr


MATRIX = {
    "as it is": {},
    "adapter": adapter(),
    "adapter on a claim": {**adapter(), "storage": {"type": "persistentVolumeClaim"}},
    "all of it": {
        "storage": {"type": "persistentVolumeClaim", "payloads": {"size": 5e10}},
        "labels": {"site": "a", "year": 2026},
        "networkPolicy": {"clients": [{"namespaceSelector": {}}], "monitoring": [{"podSelector": {}}]},
        "triton": {
            "replicas": "2",
            "gpus": "2",
            "image": {"digest": DIGEST, "pullSecrets": ["key"]},
            "resources": {"limits": {"cpu": 1, "memory": 4294967296}, "requests": {"cpu": 0.5}},
            "startupSeconds": "60",
            "sharedMemory": 1073741824,
            "user": {"id": 1000650000, "group": "1000650000"},
            "service": {"type": "NodePort", "grpc": "8001"},
            "nodeSelector": {"gpu": True},
            "extraVolumes": [{"name": "cache", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "cache", "mountPath": "/cache"}],
        },
        "adapter": {
            "enabled": True,
            "tls": {"secretName": "dicom-tls", "clientCertificates": "ca.crt"},
            "secrets": ["pacs-ca", "pacs-ca", "web-token"],
            "service": {
                "type": "LoadBalancer",
                "dicom": "2762",
                "nodePort": "30104",
                "loadBalancerSourceRanges": ["192.0.2.0/24"],
                "annotations": {"weight": 1},
            },
            "serviceAccount": {"annotations": {"role": "x"}},
            "resources": {"limits": {"cpu": 1, "memory": "1Gi"}},
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "topologySpreadConstraints": [
                {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}
            ],
            "priorityClassName": "high",
            "podAnnotations": {"n": 1},
            "podLabels": {"on": True},
            "podSecurityContext": {"fsGroup": None, "supplementalGroups": [5]},
            "securityContext": {"runAsNonRoot": True},
            "terminationGracePeriodSeconds": "30",
        },
    },
}


@one_helm
@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_manifests_are_valid_for_the_current_api(helm, tmp_path, values):
    validate(rendered(helm, values, tmp_path, "--kube-version", CURRENT_API).values())


@one_helm
def test_a_file_of_the_chart_makes_objects_of_one_kind(helm):
    done = subprocess.run([helm, "template", "site", PLATFORM], capture_output=True, text=True, check=True)
    assert done.stdout.count("# Source: ") == done.stdout.count("\nkind: ")
    for file in (PLATFORM / "templates").rglob("*.yaml"):
        assert len(re.findall(r"^kind: ", file.read_text(), re.MULTILINE)) <= 1, file
        assert not re.search(r"^---", file.read_text(), re.MULTILINE), file


@one_helm
def test_triton_is_found_at_the_ports_that_studies_ask(helm, tmp_path):
    service = rendered(helm, {}, tmp_path)["Service", "triton"]
    assert {port["name"]: (port["port"], port["protocol"]) for port in service["spec"]["ports"]} == {
        "http": (8000, "TCP"),
        "grpc": (8001, "TCP"),
        "metrics": (8002, "TCP"),
    }


@one_helm
def test_the_adapter_may_run_studies_and_no_more(helm, tmp_path):
    made = rendered(helm, adapter(), tmp_path)
    rules = made["Role", "site-adapter"]["rules"]
    allowed = {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    assert ("jobs", "create") in allowed
    assert not {resource for resource, _ in allowed} & {"secrets", "configmaps", "*"}
    assert not {verb for _, verb in allowed} & {"*", "update", "patch", "deletecollection"}
    assert container_of(made)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@one_helm
def test_a_service_account_of_ones_own_gets_the_rights(helm, tmp_path):
    made = rendered(helm, adapter(serviceAccount={"create": False, "name": "mine"}), tmp_path)
    assert "ServiceAccount" not in {kind for kind, _ in made}
    assert made["RoleBinding", "site-adapter"]["subjects"][0]["name"] == "mine"
    assert pod_of(made)["serviceAccountName"] == "mine"


@one_helm
def test_a_drained_node_takes_one_of_several_servers_at_a_time(helm, tmp_path):
    old = rendered(helm, {"triton": {"replicas": 2}}, tmp_path, "--kube-version", "1.20.2")
    new = rendered(helm, {"triton": {"replicas": 2}}, tmp_path, "--kube-version", CURRENT_API)
    budgets = [made["PodDisruptionBudget", "site-triton"] for made in (old, new)]
    assert [each["apiVersion"] for each in budgets] == ["policy/v1beta1", "policy/v1"]
    assert budgets[0]["spec"]["maxUnavailable"] == 1
    assert ("PodDisruptionBudget", "site-triton") not in rendered(helm, {}, tmp_path)


@one_helm
def test_prometheus_is_told_where_to_read_and_with_which_token(helm, tmp_path):
    values = {**adapter(), "serviceMonitor": {"enabled": True, "labels": {"release": "monitoring"}}}
    made = rendered(helm, values, tmp_path)
    monitor, service = made["ServiceMonitor", "site-adapter"], made["Service", "site-adapter-http"]
    assert monitor["metadata"]["labels"]["release"] == "monitoring"
    wanted, labels = monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"]
    assert wanted == {key: labels[key] for key in wanted}
    assert monitor["spec"]["endpoints"][0]["authorization"]["credentials"] == {
        "name": "site-adapter-token",
        "key": "token",
    }
    assert ("ServiceMonitor", "site-triton") in made


@one_helm
def test_an_image_is_pulled_by_its_digest_where_there_is_one(helm, tmp_path):
    image = {"registry": "registry.example:5000/", "digest": DIGEST}
    triton = {"repository": "localhost:5000/nvidia/tritonserver", "tag": f"25.01-py3@{DIGEST}"}
    made = rendered(helm, {**adapter(image=image), "triton": {"image": triton}}, tmp_path)
    assert container_of(made)["image"] == f"registry.example:5000/clara/dicom-adapter@{DIGEST}"
    assert container_of(made, "triton")["image"] == f"localhost:5000/nvidia/tritonserver:25.01-py3@{DIGEST}"


# The configuration


def test_the_file_names_the_reference_workflow():
    config = YAML(typ="safe").load(PLATFORM / "files/dicom-server-config.yaml")
    (title,) = config["dicom"]["scp"]["ae-titles"]
    assert title["ae-title"] == "CT_AI"
    assert title["processors"] == ["Nvidia.Clara.Dicom.Processors.JobProcessor,Nvidia.Clara.DicomServer"]
    (rule,) = config["workflows"]
    assert rule == {
        "name": "liver-seg",
        "clara-ae-title": "CT_AI",
        "destination-name": "DCM4CHEE",
        "workflow": LIVER_SEG,
    }
    assert [each["name"] for each in config["dicom"]["scu"]["destinations"]] == ["DCM4CHEE"]


@every_helm
def test_the_file_stays_as_it_is_written_and_is_made_fit_for_a_pod(helm, tmp_path):
    made = rendered(helm, adapter(), tmp_path)
    assert config_text(made).startswith((PLATFORM / "files/dicom-server-config.yaml").read_text().rstrip())
    config = loaded(made, tmp_path)
    assert (config.http.host, config.http.token_file) == ("0.0.0.0", "/run/clara/token")
    assert config.jobs.engine == "kubernetes"
    assert [source.host_ip for source in config.dicom.scp.sources] == [""]  # a Pod's address is not known
    mounts = {each["name"]: each["mountPath"] for each in container_of(made)["volumeMounts"]}
    assert mounts["token"] == "/run/clara"
    assert made["Secret", "site-adapter-token"]["data"]["token"]


@one_helm
def test_what_a_configuration_says_is_kept(helm, tmp_path):
    config = loaded(rendered(helm, OLD_VALUES, tmp_path), tmp_path)
    assert (config.http.port, config.dicom.scp.port) == (9090, 11112)
    own = with_config(jobs={"engine": "process", "at-once": 3}, http={"port": 8081})
    config = loaded(rendered(helm, own, tmp_path), tmp_path)
    assert (config.jobs.engine, config.jobs.at_once) == ("process", 3)
    assert (config.http.port, config.http.host) == (8081, "0.0.0.0")
    assert config.dicom.scp.reject_unknown_sources is False


@one_helm
def test_on_a_claim_everything_lies_in_the_claim_and_can_be_linked(helm, tmp_path):
    made = rendered(helm, {**adapter(), "storage": {"type": "persistentVolumeClaim"}}, tmp_path)
    config = loaded(made, tmp_path)
    mounts = {each["mountPath"]: each.get("subPath") for each in container_of(made)["volumeMounts"]}
    assert mounts["/clara-io/clara-core/payloads"] is None
    assert config.storage.received.parent == config.storage.payloads  # one mount: links work
    assert mounts[str(config.storage.workflows)] == "workflows"
    assert made["PersistentVolumeClaim", "clara-payloads"]["metadata"]["annotations"] == {
        "helm.sh/resource-policy": "keep"
    }


@one_helm
def test_tls_is_on_with_the_files_of_its_secret(helm, tmp_path):
    tls = {"secretName": "dicom-tls", "clientCertificates": "ca.crt"}
    made = rendered(helm, adapter(tls=tls, secrets=["pacs-ca"]), tmp_path)
    found = loaded(made, tmp_path).dicom.scp.tls
    assert (found.enabled, found.certificate, found.key) == (
        True,
        "/etc/clara/tls/tls.crt",
        "/etc/clara/tls/tls.key",
    )
    assert found.client_certificates == "/etc/clara/tls/ca.crt"
    secrets = {each["name"]: each["secret"] for each in pod_of(made)["volumes"] if "secret" in each}
    paths = {
        secrets[each["name"]]["secretName"]: each["mountPath"]
        for each in container_of(made)["volumeMounts"]
        if each["name"] in secrets
    }
    assert paths == {
        "site-adapter-token": "/run/clara",
        "dicom-tls": "/etc/clara/tls",
        "pacs-ca": "/etc/clara/secrets/pacs-ca",
    }
    assert {each["defaultMode"] for each in secrets.values()} == {0o440}


@one_helm
def test_the_pod_listens_where_the_configuration_says_and_modalities_call_the_service(helm, tmp_path):
    values = with_config()
    values["adapter"]["config"]["dicom"]["scp"]["port"] = "11112"
    values["adapter"]["service"] = {"type": "NodePort", "dicom": "104", "nodePort": 30104}
    made = rendered(helm, values, tmp_path, "--kube-version", CURRENT_API)
    ports = {each["name"]: each["containerPort"] for each in container_of(made)["ports"]}
    assert ports == {"dicom": 11112, "http": 8080}
    spec = made["Service", "site-adapter"]["spec"]
    assert [(each["port"], each["targetPort"], each["nodePort"]) for each in spec["ports"]] == [
        (104, "dicom", 30104)
    ]
    assert spec["externalTrafficPolicy"] == "Local"
    assert "sysctls" not in pod_of(made)["securityContext"]
    assert pod_of(rendered(helm, adapter(), tmp_path, "--kube-version", CURRENT_API))["securityContext"][
        "sysctls"
    ] == [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]


@one_helm
def test_opening_dicom_to_the_hospital_opens_nothing_else(helm, tmp_path):
    made = rendered(helm, adapter(service={"type": "LoadBalancer"}), tmp_path)
    assert [each["name"] for each in made["Service", "site-adapter"]["spec"]["ports"]] == ["dicom"]
    assert made["Service", "site-adapter-http"]["spec"]["type"] == "ClusterIP"
    inside = rendered(helm, adapter(), tmp_path)["Service", "site-adapter"]["spec"]
    assert [each["name"] for each in inside["ports"]] == ["dicom", "http"]


@one_helm
def test_the_tests_of_the_release_call_its_services(helm, tmp_path):
    made = rendered(helm, adapter(service={"dicom": 11112}), tmp_path)
    echo, ready = made["Pod", "site-adapter-test"], made["Pod", "site-triton-test"]
    assert echo["spec"]["containers"][0]["args"][-4:] == ["--host", "site-adapter", "--port", "11112"]
    assert "http://triton:8000/v2/health/ready" in ready["spec"]["containers"][0]["args"][0]
    assert {each["metadata"]["annotations"]["helm.sh/hook"] for each in (echo, ready)} == {"test"}
    allowed = made["NetworkPolicy", "site-triton"]["spec"]["ingress"][0]["from"]
    wanted = [peer["podSelector"]["matchLabels"] for peer in allowed]
    assert any(each.items() <= ready["metadata"]["labels"].items() for each in wanted)


# What people write


@every_helm
def test_numbers_may_be_written_as_numbers_or_texts(helm, tmp_path):
    written = {"limits": {"cpu": 1, "memory": 4294967296}, "requests": {"cpu": 0.5, "memory": "1Gi"}}
    values = {
        "labels": {"site": 20260101},
        **adapter(resources=written, user={"id": "1000650000", "group": 2000}, nodeSelector={"gpu": True}),
        "triton": {"gpus": "2", "replicas": "1", "startupSeconds": "61"},
    }
    made = rendered(helm, values, tmp_path)
    assert container_of(made)["resources"] == {
        "limits": {"cpu": "1", "memory": "4294967296"},
        "requests": {"cpu": "0.5", "memory": "1Gi"},
    }
    security = pod_of(made)["securityContext"]
    assert (security["runAsUser"], security["fsGroup"]) == (1000650000, 2000)
    assert pod_of(made)["nodeSelector"] == {"gpu": "true"}
    assert made["Service", "triton"]["metadata"]["labels"]["site"] == "20260101"
    triton = container_of(made, "triton")
    assert triton["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert triton["startupProbe"]["failureThreshold"] == 31


NOTHING = {
    "labels": None,
    "nameOverride": None,
    "triton": {
        "command": None,
        "args": None,
        "resources": None,
        "nodeSelector": None,
        "tolerations": None,
        "podAnnotations": None,
        "podSecurityContext": None,
        "runtimeClassName": "",
        "image": {"registry": None, "pullSecrets": None, "digest": None},
    },
    "adapter": {
        "enabled": True,
        "config": None,
        "tokenSecret": None,
        "tls": None,
        "secrets": None,
        "resources": None,
        "serviceAccount": None,
        "affinity": None,
        "podLabels": None,
        "podAnnotations": None,
        "securityContext": None,
        "extraVolumes": None,
        "makeFolders": None,
        "terminationGracePeriodSeconds": None,
        "service": {"annotations": None, "nodePort": "", "externalTrafficPolicy": None, "type": "NodePort"},
    },
    "serviceMonitor": None,
    "networkPolicy": {"clients": None, "monitoring": None},
}


@every_helm
def test_null_is_the_same_as_nothing(helm, tmp_path):
    made = rendered(helm, NOTHING, tmp_path, "--kube-version", CURRENT_API)
    validate(made.values())
    assert made["Service", "site-adapter"]["spec"]["externalTrafficPolicy"] == "Local"
    assert pod_of(made)["terminationGracePeriodSeconds"] == 60


@one_helm
def test_null_takes_away_what_the_chart_sets_for_security(helm, tmp_path):
    values = adapter(podSecurityContext={"runAsUser": None, "fsGroup": None, "fsGroupChangePolicy": None})
    security = pod_of(rendered(helm, values, tmp_path))["securityContext"]
    assert set(security) & {"runAsUser", "fsGroup"} == set()
    assert security["runAsNonRoot"] is True


@every_helm
@pytest.mark.parametrize("release", ["a" * 53, "1st-floor", "st.mary", "x-" * 26 + "x", "a"])
def test_any_name_of_a_release_gives_names_that_services_may_have(helm, tmp_path, release):
    made = rendered(helm, adapter(), tmp_path, release=release)
    names = [name for kind, name in made if kind in ("Service", "Pod", "Deployment")]
    assert len(names) == 7
    assert all(re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name) for name in names), names


@one_helm
def test_two_releases_in_one_namespace_have_nothing_in_common_but_what_they_share(helm, tmp_path):
    first = rendered(helm, adapter(), tmp_path, release="one")
    other = {
        "storage": {
            "type": "persistentVolumeClaim",
            "payloads": {"create": False},
            "models": {"create": False},
        }
    }
    second = rendered(helm, {**adapter(), **other, "triton": {"enabled": False}}, tmp_path, release="two")
    assert not first.keys() & second.keys()
    selectors = [
        made["Service", f"{name}-adapter"]["spec"]["selector"]
        for made, name in ((first, "one"), (second, "two"))
    ]
    assert selectors[0] != selectors[1]


@one_helm
def test_labels_of_ones_own_stand_beside_those_that_the_chart_finds_its_pods_by(helm, tmp_path):
    values = {"labels": {"app.kubernetes.io/instance": "x", "app.kubernetes.io/version": "9", "team": "a"}}
    made = rendered(helm, {**values, **adapter(podLabels={"app.kubernetes.io/component": "y"})}, tmp_path)
    labels = made["Deployment", "site-adapter"]["spec"]["template"]["metadata"]["labels"]
    selector = made["Service", "site-adapter"]["spec"]["selector"]
    assert selector.items() <= labels.items()
    assert (labels["team"], labels["app.kubernetes.io/version"]) == ("a", "9")


@one_helm
@pytest.mark.parametrize("values", [MATRIX["all of it"], OLD_VALUES, NOTHING], ids=["all", "old", "nothing"])
def test_lint_prints_the_notes_of_any_values_without_a_complaint(helm, tmp_path, values):
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values))
    lint = [helm, "lint", "--strict", str(PLATFORM), "--values", str(file)]
    done = subprocess.run(lint, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def whole(given, default):
    """Return values as Helm holds them against the schema: the chart's, with those given put over."""
    merged = {key: value for key, value in default.items() if key not in given}
    for key, value in given.items():
        if isinstance(value, dict) and isinstance(default.get(key), dict):
            merged[key] = whole(value, default[key])
        elif value is not None:
            merged[key] = value
    return merged


@pytest.fixture(scope="module")
def schema():
    jsonschema = pytest.importorskip("jsonschema")
    content = json.loads((PLATFORM / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(content)
    return jsonschema.Draft7Validator(content)


REFUSED = [
    (adapter(config={"dicom": "x"}), "adapter.config.dicom"),
    (adapter(image={"tag": 1.1}), "adapter.image.tag"),
    (adapter(image={"tag": ""}), "adapter.image"),
    (adapter(image={"digest": "sha256:12"}), "adapter.image.digest"),
    (adapter(image={"repository": "Clara/Adapter"}), "adapter.image.repository"),
    (adapter(image={"registry": "https://registry.example"}), "adapter.image.registry"),
    (adapter(service=None), "adapter"),
    (adapter(service={"dicom": "70000"}), "adapter.service.dicom"),
    (adapter(service={"nodePort": -1}), "adapter.service.nodePort"),
    (adapter(service={"loadBalancerSourceRanges": ["ward"]}), "adapter.service.loadBalancerSourceRanges.0"),
    (adapter(serviceAccount={"create": False}), "adapter.serviceAccount.name"),
    (adapter(tls={"secretname": "x"}), "adapter.tls"),
    (adapter(secrets=[""]), "adapter.secrets.0"),
    (adapter(user={"id": "0"}), "adapter.user.id"),
    (adapter(resources={"limits": {"memory": "2 GB"}}), "adapter.resources.limits.memory"),
    (adapter(extraVolumes={"name": "x"}), "adapter.extraVolumes"),
    (adapter(terminationGracePeriodSeconds=0), "adapter.terminationGracePeriodSeconds"),
    ({"adaptor": {}}, ""),
    ({"storage": None}, ""),
    ({"storage": {"root": "/a/../b"}}, "storage.root"),
    ({"triton": {"gpus": "one"}}, "triton.gpus"),
    ({"triton": {"service": {"name": "1triton"}}}, "triton.service.name"),
]


@pytest.mark.parametrize(("values", "place"), REFUSED, ids=lambda part: str(part)[:50])
def test_the_schema_refuses_what_cannot_work_where_it_stands(schema, values, place):
    shipped = YAML(typ="safe").load(PLATFORM / "values.yaml")
    assert {".".join(map(str, error.path)) for error in schema.iter_errors(whole(values, shipped))} == {place}


@pytest.mark.parametrize("values", [*MATRIX.values(), NOTHING, OLD_VALUES], ids=lambda part: str(part)[:50])
def test_the_schema_takes_what_works(schema, values):
    shipped = YAML(typ="safe").load(PLATFORM / "values.yaml")
    assert [error.message for error in schema.iter_errors(whole(values, shipped))] == []


@one_helm
@pytest.mark.parametrize(
    ("values", "words"),
    [
        (with_config(http={"host": "127.0.0.1"}), "loopback, where neither probes nor people can ask"),
        (with_config(http={"port": 0}), "the http port is 0; write one from 1 to 65535"),
        (adapter(config={"dicom": {"scp": {"port": "soon"}}}), "the dicom port is 0"),
        (adapter(image={"tag": 1.1}), "tag"),
    ],
    ids=lambda part: str(part)[:50],
)
def test_helm_refuses_what_could_never_be_reached(helm, tmp_path, values, words):
    code, _, errors = template(helm, values, tmp_path)
    assert code != 0
    assert words in errors


@one_helm
def test_a_release_of_the_chart_before_is_upgraded_with_the_values_it_has(helm, tmp_path):
    made = rendered(helm, OLD_VALUES, tmp_path)
    assert ("Secret", "site-adapter-token") not in made
    (token,) = [each["secret"] for each in pod_of(made)["volumes"] if each["name"] == "token"]
    assert token["secretName"] == "mine"
    ports = [
        made["Service", f"site-{name}"]["spec"]["ports"][0]["port"] for name in ("adapter", "adapter-http")
    ]
    assert ports == [11112, 9090]
    selector = made["Deployment", "site-adapter"]["spec"]["selector"]["matchLabels"]
    assert selector == {
        "app.kubernetes.io/name": "clara-platform",
        "app.kubernetes.io/instance": "site",
        "app.kubernetes.io/component": "adapter",
    }


def test_the_readme_tells_every_value_with_its_default():
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import chart_values
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    assert (PLATFORM / "README.md").read_text() == chart_values.readme(PLATFORM)
