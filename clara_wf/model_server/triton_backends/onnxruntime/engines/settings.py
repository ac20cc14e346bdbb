"""What a model's configuration and this machine say of how to compute."""

import json
import os
from pathlib import Path


def parameter(config, name, default=""):
    """Return a parameter of the model's configuration, as text."""
    return config.get("parameters", {}).get(name, {}).get("string_value") or default


def value(config, name, default=None):
    """Return a parameter of the model's description, whose text is JSON; the default if it is none."""
    try:
        return json.loads(parameter(config, name))
    except ValueError:
        return default


def thread_count(config):
    """Return how many threads compute an answer: what the configuration says, else one a core."""
    return int(parameter(config, "intra_op_thread_count", usable_cores()))


def usable_cores():
    """Return how many cores this process may use: its affinity, and its container's share of time."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no control group of version 2, or no limit ("max")
        return cores
