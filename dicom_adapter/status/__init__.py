"""What people and probes see of the adapter: health, metrics and status page out, nothing in."""
