"""The ``docker`` command.

The command rather than a library: it brings whatever the user has set up (contexts, DOCKER_HOST, rootless
engines), needs no package, and what it runs can be typed by a person.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.errors import SettingsError

_TIMEOUT_S = 60.0
_INSTEAD = "or use --engine process"


@dataclass(frozen=True, kw_only=True)
class Docker:
    """The command line client.

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
    def find(cls, environ: Mapping[str, str]) -> Docker:
        """Return the client that is installed.

        Raises
        ------
        SettingsError
            If there is none.
        """
        program = shutil.which("docker", path=environ.get("PATH"))
        if program is None:
            raise SettingsError(
                f"there is no docker command on this machine; install Docker Engine, {_INSTEAD}"
            )
        return cls(program=program, environ=environ)

    def command(self, *arguments: str) -> list[str]:
        """Return a command line.

        Parameters
        ----------
        arguments
            What follows the program.
        """
        return [self.program, *arguments]

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and return what it said, whether it succeeded or not.

        Parameters
        ----------
        arguments
            What follows the program.

        Raises
        ------
        SettingsError
            If it gives no answer in time.
        """
        try:
            return subprocess.run(
                self.command(*arguments),
                env=self.environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise SettingsError(
                f"the Docker engine did not answer within {_TIMEOUT_S:g} s to: docker {' '.join(arguments)}"
            ) from error

    def tell(self, *arguments: str) -> str:
        """Run a command that has to succeed and return its output.

        Parameters
        ----------
        arguments
            What follows the program.

        Raises
        ------
        SettingsError
            If it fails, with the engine's reason.
        """
        done = self.ask(*arguments)
        if done.returncode != 0:
            raise SettingsError(f"docker {' '.join(arguments[:2])} failed: {_reason(done.stderr)}")
        return done.stdout.strip()

    def start(self, *arguments: str, output: Any, preexec_fn: Any) -> subprocess.Popen[bytes]:
        """Start a command that goes on, in a session of its own; its output goes to a file.

        Parameters
        ----------
        arguments, output
            What follows the program and the file for its output.
        preexec_fn
            Called in the new process before the program starts.
        """
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a terminal's Ctrl-C reaches us, and we stop the containers
            preexec_fn=preexec_fn,
        )

    def images(self, names: Sequence[str]) -> dict[str, str]:
        """Return each image with its digest, such as ``clara/dicom-reader:0.1.0@sha256:...``.

        Parameters
        ----------
        names
            The images' names.

        Raises
        ------
        SettingsError
            If the engine does not answer, or images are missing: one message names them all and how each
            is built.
        """
        found = {name: self._image(name) for name in dict.fromkeys(names)}
        missing = [name for name, digest in found.items() if digest is None]
        if missing:
            remedies = "".join(f"\n  {name}: {how_to_get(name)}" for name in missing)
            raise SettingsError(f"the Docker engine has no image {', '.join(missing)}; build{remedies}")
        return {name: f"{name}@{digest}" for name, digest in found.items()}

    def _image(self, name: str) -> str | None:
        done = self.ask("image", "inspect", "--format", "{{json .}}", name)
        if done.returncode == 0:
            facts = json.loads(done.stdout)
            published = [digest.rpartition("@")[2] for digest in facts.get("RepoDigests") or []]
            return str(published[0] if published else facts["Id"])
        if "no such image" in done.stderr.lower():
            return None
        raise SettingsError(
            f"the Docker engine does not answer: {_reason(done.stderr)}; start it, see that this user may "
            f"use it and DOCKER_HOST names it, {_INSTEAD}"
        )


def how_to_get(image: str) -> str:
    """Return the command that builds an image, or pulls it.

    Parameters
    ----------
    image
        The image's name.
    """
    repository = image.rpartition(":")[0]
    if repository.startswith("clara/"):
        return f"scripts/build-images {repository.removeprefix('clara/').replace('-', '_')}"
    return f"docker build -t {image} FOLDER, or docker pull {image}"


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
