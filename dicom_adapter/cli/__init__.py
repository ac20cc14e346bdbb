"""What the adapter adds to ``clara-wf``: itself, and ``pull``, by which studies come from an archive."""

from clara_wf.commands.extensions import Extension

EXTENSION = Extension(
    commands={
        "pull": ("dicom_adapter.cli.pull:pull", "Fetch a study from an archive, as input of a job."),
        "adapter": ("dicom_adapter.cli.app:app", "Receive studies by DICOM, run workflows, deliver results."),
    },
    checks={"dicom": "dicom_adapter.config.load:lint_adapter"},
    archives="dicom_adapter.cli.archives:open_archives",
)
