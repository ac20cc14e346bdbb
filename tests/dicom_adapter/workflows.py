"""Published workflows of the smallest stages, run as processes."""

import sys
from pathlib import Path

from clara_wf.publish.publish import publish

ROOT = Path(__file__).parents[2]
CHART = ROOT / "clara-reference-workflows/charts/clara-workflow"
STAMP = "7b413e24-d018-4689-8c41-73272f6649d4"

_BLOCK = """
  ##BEGIN_{name}##
  {name}:
    image: {{repository: clara/{name}, tag: latest}}
    mount:
      in: {{name: "input"}}
      out: {{name: "output"}}
    stageName: "{name}"
    appDir: "/app"
    inputLock: "/app/locks/input.lock"
    inputs: "input"
    logName: "/app/logs/{name}.log"
    outputs: "output"
    lockDir: "/app/locks"
    lockName: "{name}.lock"
    timeout: "60"
    publishPath: "/publish"
    command: {command}
  ##END_{name}##
"""
_PASS = ["sh", "-c", 'cp -r "$NVIDIA_CLARA_INPUT"/. "$NVIDIA_CLARA_OUTPUT"']


def publish_stamp(folder, steering, script="stamp_stage.py"):
    """Publish a workflow of two stages, ``pass`` and ``stamp``, and return the folder of published ones.

    The second runs a script of this folder.
    """
    steering.mkdir(parents=True, exist_ok=True)
    commands = {
        "pass": ["python", "-m", "stages", "wrap", "--", *_PASS],
        "stamp": [sys.executable, str(ROOT / "tests/dicom_adapter" / script), str(steering)],
    }
    blocks = [_BLOCK.format(name=name, command=_quoted(each)) for name, each in commands.items()]
    values = folder / "values.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    values.write_text(
        "stages:" + "".join(blocks) + f"\nworkflows:\n  {STAMP}:\n"
        '    name: "stamp"\n    stages: ["pass", "stamp"]\n    waitLocks: ["", "pass.lock"]\n'
        '    ioFolders: ["pass/input", "pass/output", "stamp/output"]\n    args: ["", ""]\n'
    )
    target = folder / "published"
    publish(STAMP, "Stamp", target, values=values, chart=CHART, models=None, environ={"PATH": "/nonexistent"})
    return target


def _quoted(words):
    return "[" + ", ".join("'" + word.replace("'", "''") + "'" for word in words) + "]"
