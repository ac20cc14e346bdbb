"""Print the software bill of materials of a Docker image: ``sbom.py IMAGE [FILE]``.

Lists what is in the image, not what was meant to be: its Python packages with their licences, its Debian
or Ubuntu packages, and Triton where it has one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

_PYTHON_PACKAGES = """
import importlib.metadata, json

def licence(facts):
    classifiers = facts.get_all("Classifier") or []
    classified = [text.rpartition(" :: ")[2] for text in classifiers if text.startswith("License ::")]
    return facts.get("License-Expression") or facts.get("License") or ", ".join(classified)

print(json.dumps([
    {"name": each.metadata["Name"], "version": each.version,
     "licence": licence(each.metadata), "about": each.metadata.get("Summary") or ""}
    for each in importlib.metadata.distributions()
]))
"""
_SYSTEM_PACKAGES = (
    ". /etc/os-release; "
    'dpkg-query --show --showformat "$ID\\t$VERSION_ID\\t\\${Package}\\t\\${Version}\\t\\${Architecture}\\n"'
)
_TRITON = "ls -d /opt/triton/server 2>/dev/null || true"
_LONGEST_LICENCE = 80  # some packages put the whole text where its name belongs


def main(argv: list[str]) -> int:
    """Write the bill of one image to a file, or print it."""
    if len(argv) not in (1, 2):
        sys.stderr.write("usage: scripts/sbom IMAGE [FILE]\n")
        return 2
    try:
        text = bill_of(argv[0])
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"cannot look into the image {argv[0]}: {error.stderr.strip()}\n")
        return 1
    if len(argv) == 2:
        Path(argv[1]).write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


def bill_of(image: str) -> str:
    """Return the bill of an image; the same for the same image."""
    facts = json.loads(_docker("image", "inspect", "--format", "{{json .}}", image))
    labels = facts["Config"].get("Labels") or {}
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, facts["Id"]))
    bom.metadata.timestamp = datetime.fromisoformat(facts["Created"][:19] + "+00:00")
    bom.metadata.component = Component(
        name=image.rpartition(":")[0] or image,
        version=labels.get("org.opencontainers.image.version") or facts["Id"],
        type=ComponentType.CONTAINER,
        bom_ref=facts["Id"],
    )
    for component in [*_python_packages(image), *_system_packages(image), *_triton(image)]:
        bom.components.add(component)
    bom.register_dependency(bom.metadata.component, bom.components)
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2) + "\n"


def _python_packages(image: str) -> Iterator[Component]:
    licences = LicenseFactory()
    for package in json.loads(_inside(image, "python", "-c", _PYTHON_PACKAGES)):
        licence = package["licence"].strip()
        known = licence and len(licence) <= _LONGEST_LICENCE
        yield Component(
            name=package["name"],
            version=package["version"],
            description=package["about"] or None,
            licenses=[licences.make_from_string(licence)] if known else [],
            **_identity("pypi", package["name"].lower(), package["version"]),
        )


def _system_packages(image: str) -> Iterator[Component]:
    for line in _inside(image, "/bin/sh", "-c", _SYSTEM_PACKAGES).splitlines():
        system, release, name, version, architecture = line.split("\t")
        qualifiers = {"arch": architecture, "distro": f"{system}-{release}"}
        yield Component(
            name=name,
            version=version,
            **_identity("deb", name, version, namespace=system, qualifiers=qualifiers),
        )


def _triton(image: str) -> Iterator[Component]:
    if _inside(image, "/bin/sh", "-c", _TRITON).strip():
        version = _inside(image, "/bin/sh", "-c", "cat /opt/triton/VERSION").strip()
        yield Component(name="tritonserver", version=version, **_identity("generic", "tritonserver", version))


def _identity(kind: str, name: str, version: str, **more: Any) -> dict[str, Any]:
    purl = PackageURL(kind, name=name, version=version, **more)
    return {"purl": purl, "bom_ref": purl.to_string(), "type": ComponentType.LIBRARY}


def _inside(image: str, program: str, *arguments: str) -> str:
    return _docker(
        "run", "--rm", "--network=none", "--read-only", f"--entrypoint={program}", image, *arguments
    )


def _docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
