"""The docker engine: each stage of a job becomes a container, removed however the run ends."""
