"""What the adapter has written down of studies, jobs and deliveries, in SQLite: records in, records out."""
