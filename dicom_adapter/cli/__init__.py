"""``clara-wf adapter``: run the adapter, show its jobs, replay dead letters, release held studies."""

from clara_wf.commands.extensions import Extension

EXTENSION = Extension(
    commands={
        "adapter": ("dicom_adapter.cli.app:app", "Receive studies by DICOM, run workflows, deliver results.")
    },
    checks={"dicom": "dicom_adapter.config.load:lint_adapter"},
)
