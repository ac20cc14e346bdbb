"""What leaves the adapter for those who watch it (logs, metrics, audit trail): events in, no identity out."""
