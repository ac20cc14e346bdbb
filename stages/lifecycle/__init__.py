"""The life of a stage in its job: settings in, callbacks in order, a lock or a failure out."""
