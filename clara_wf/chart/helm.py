"""The `helm` program, 3 or 4: what a chart makes of values."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.errors import SettingsError

_DEADLINE_S = 60.0
_PATH_TO_IT = re.compile(r"^Error: (.*error calling (fail|required): |execution error at \([^)]*\): )?")
_ADVICE = "install Helm 3 or 4 and put it on PATH, or name it in HELM"


@dataclass(frozen=True, kw_only=True)
class Helm:
    """A `helm` that was found.

    Attributes
    ----------
    program
        Its path.
    environ
        The environment it runs in.
    """

    program: str
    environ: Mapping[str, str]

    @classmethod
    def find(cls, environ: Mapping[str, str]) -> Helm:
        """Return the program that ``HELM`` names, or the one on PATH.

        Raises
        ------
        SettingsError
            If there is none.
        """
        wanted = environ.get("HELM", "")
        program = shutil.which(wanted or "helm", path=environ.get("PATH"))
        if program is None:
            named = f"HELM={wanted} is not there" if wanted else "helm was not found"
            raise SettingsError(f"{named}; {_ADVICE}")
        return cls(program=program, environ=environ)

    def version(self) -> str:
        """Return its version, such as ``v3.17.3``."""
        return self._run("version", "--template", "{{.Version}}").strip()

    def template(
        self,
        release: str,
        chart: Path,
        values: Mapping[str, Any],
        *,
        namespace: str = "default",
        files: Sequence[Path] = (),
        kube_version: str | None = None,
    ) -> str:
        """Return the manifests of a chart as text.

        Parameters
        ----------
        release, chart
            The release's name and the chart's folder.
        values
            Replace the chart's and those of `files`.
        namespace
            The namespace.
        files
            Further values, the later ones in front.
        kube_version
            Of the cluster they are meant for; None for Helm's own idea.

        Raises
        ------
        SettingsError
            With what the chart or Helm says is wrong.
        """
        with tempfile.TemporaryDirectory(prefix="clara-wf-") as folder:
            given = Path(folder) / "values.json"
            given.write_text(json.dumps(values), encoding="utf-8")
            extra = [part for file in (*files, given) for part in ("--values", str(file))]
            version = ["--kube-version", kube_version] if kube_version else []
            return self._run(
                "template", release, str(chart), "--namespace", namespace, "--skip-tests", *extra, *version
            )

    def manifests(
        self, release: str, chart: Path, values: Mapping[str, Any], **more: Any
    ) -> list[dict[str, Any]]:
        """Return the manifests of a chart; see `template`.

        Parameters
        ----------
        release, chart, values
            The release's name, the chart's folder and the values that are not those of the chart.
        more
            What else `template` takes.
        """
        documents = YAML(typ="safe", pure=True).load_all(self.template(release, chart, values, **more))
        return [document for document in documents if document]

    def _run(self, *arguments: str) -> str:
        try:
            done = subprocess.run(
                [self.program, *arguments],
                env=dict(self.environ),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_DEADLINE_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SettingsError(f"cannot run {self.program}: {error}; {_ADVICE}") from error
        if done.returncode != 0:
            raise SettingsError(f"helm: {_in_one_line(done.stderr)}")
        return done.stdout


def _in_one_line(text: str) -> str:
    """Return what is wrong, without the path through the templates that led there."""
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("WARNING:", "level=", "Use --debug"))]
    told = _PATH_TO_IT.sub("", " ".join(lines))
    return told or "ended with an error and said nothing"
