"""DICOM network <-> payload folders: receives studies, starts published workflows, sends their results."""
