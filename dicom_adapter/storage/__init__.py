"""Files and folders on the disk: an instance's bytes in, a synced file under its final name out."""
