"""What Helm makes of a chart, and whether today's Kubernetes would take it."""

import json
import subprocess

import pytest
from ruamel.yaml import YAML

from tests.cluster import helms

CURRENT_API = "1.37.0"
_NONE = [pytest.param("", marks=pytest.mark.skip("no helm"))]
every_helm = pytest.mark.parametrize("helm", helms() or _NONE)
one_helm = pytest.mark.parametrize("helm", helms()[-1:] or _NONE, ids=["helm"])


def template(helm, values, folder, *options, chart, release="study"):
    """Return the exit code of `helm template`, the manifests, and what it says on standard error."""
    file = folder / "given.yaml"
    file.write_text(json.dumps(values))
    command = [helm, "template", release, str(chart), "--values", str(file), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, list(YAML(typ="safe").load_all(done.stdout)), done.stderr


def validate(manifests):
    """Hold manifests against the schemas of the current API."""
    validator = pytest.importorskip("kubernetes_validate")
    assert manifests
    for manifest in manifests:
        validator.validate(manifest, CURRENT_API.rpartition(".")[0], strict=True)
