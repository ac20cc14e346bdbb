"""What people see of the adapter: logs, metrics, audit trail, status page."""
