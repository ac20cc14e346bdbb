"""Studies from an archive: found, listed, retrieved into a folder that holds all of one or is not there."""
