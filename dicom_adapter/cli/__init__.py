"""``clara-wf adapter``: run the adapter, show its jobs, replay dead letters, release held studies."""
