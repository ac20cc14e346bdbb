"""Sockets of the listening side, and addresses as they are compared."""

from __future__ import annotations

import contextlib
import socket
import struct
from ipaddress import ip_address

_BACKLOG = 1024
_RESET = struct.pack("ii", 1, 0)


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens; on all addresses of version 6 also for version 4.

    Parameters
    ----------
    host
        The address to listen on; "" for all.
    port
        The port.
    """
    if ":" not in host:
        return socket.create_server((host, port), backlog=_BACKLOG)
    both = socket.has_dualstack_ipv6()
    return socket.create_server((host, port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=both)


def reset(connection: socket.socket) -> None:
    """Close a connection at once, without a farewell.

    Parameters
    ----------
    connection
        The connection.
    """
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()


def plain_address(address: str) -> str:
    """Return an IP address in its usual form; an IPv4 one that came over an IPv6 socket as such.

    Parameters
    ----------
    address
        The address.
    """
    found = ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or found)
