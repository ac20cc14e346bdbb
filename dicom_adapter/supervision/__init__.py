"""Threads that no error ends, and how long things may take: what every part of the adapter runs in."""
