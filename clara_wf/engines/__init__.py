"""Ways to run one workflow: an engine starts a job's stages, `watch` follows them to their end."""
