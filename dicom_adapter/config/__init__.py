"""dicom-server-config.yaml: text in, checked settings out."""
