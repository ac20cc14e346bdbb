"""Ports of the loopback interface that servers of tests may listen at."""

import random
import socket

_BELOW_EPHEMERAL = range(15000, 32000)  # connections of programs get 32768 and up, and may take one meanwhile


def free_port():
    """Return a port that nobody has."""
    while True:
        port = random.choice(_BELOW_EPHEMERAL)
        with socket.socket() as each:
            try:
                each.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
