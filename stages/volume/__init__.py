"""A volume, its place in the patient, its labels and its files; arrays and files in, `Volume` out."""
