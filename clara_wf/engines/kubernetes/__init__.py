"""The kubernetes engine: a study becomes a Job, its files go into one Pod and come back."""
