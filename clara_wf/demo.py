"""The demonstration job."""

DEMO_JOB = "11111111-1111-1111-1111-111111111111"


def make_demo_job(*a): ...
