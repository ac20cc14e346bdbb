"""A workflow tried here, from its input to its report, and what is said of jobs and of this machine."""
