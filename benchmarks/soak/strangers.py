"""Who has no business with the adapter: idle callers, tricklers, garbage, and titles that nobody knows.

``python strangers.py PORT [IDLE TRICKLING GARBAGE UNKNOWN]``: until it is ended; whoever is hung up on calls
again.
"""

from __future__ import annotations

import os
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence

_CT, _EXPLICIT = b"1.2.840.10008.5.1.4.1.1.2", b"1.2.840.10008.1.2.1"
_USUAL = (60, 60, 4, 4)


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def association_request(called: bytes, calling: bytes) -> bytes:
    """Return an A-ASSOCIATE-RQ for CT images (PS3.8 9.3.2)."""
    context = _item(0x20, b"\x01\0\0\0" + _item(0x30, _CT) + _item(0x40, _EXPLICIT))
    user = _item(0x50, _item(0x51, struct.pack(">L", 16384)) + _item(0x52, b"1.2.3"))
    body = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16), calling.ljust(16))
    body += _item(0x10, b"1.2.840.10008.3.1.1.1") + context + user
    return struct.pack(">BxL", 1, len(body)) + body


def call(port: int, address: str) -> socket.socket:
    """Return a connection that comes from another address of the loopback."""
    return socket.create_connection(("127.0.0.1", port), timeout=5, source_address=(address, 0))


def keep_calling(port: int, address: str, behave: Callable[[socket.socket], None]) -> None:
    """Behave badly for ever, over one connection after the other."""
    while True:
        try:
            with call(port, address) as wire:
                behave(wire)
        except OSError:
            pass
        time.sleep(0.5 + random.random())


def be_idle(wire: socket.socket) -> None:
    wire.settimeout(120)
    wire.recv(1)


def trickle(wire: socket.socket) -> None:
    for byte in association_request(b"CT_AI", b"NOBODY") * 20:
        wire.sendall(bytes([byte]))
        time.sleep(2)


def be_garbage(wire: socket.socket) -> None:
    wire.sendall(random.randbytes(random.randrange(1, 4000)))
    wire.settimeout(3)
    wire.recv(100)


def be_unknown(wire: socket.socket) -> None:
    wire.sendall(association_request(b"CT_AI", f"STRANGER{random.randrange(10_000)}".encode()))
    wire.settimeout(3)
    wire.recv(100)


def main(port: int, counts: Sequence[int]) -> None:
    random.seed(os.getpid())
    kinds = (be_idle, trickle, be_garbage, be_unknown)
    crowd = [
        (f"127.0.0.{60 + n}", behave)
        for n, (behave, count) in enumerate(zip(kinds, counts or _USUAL, strict=True))
        for _ in range(count)
    ]
    threads = [
        threading.Thread(target=keep_calling, args=(port, address, behave), daemon=True)
        for address, behave in crowd
    ]
    for each in threads:
        each.start()
    threads[0].join()


if __name__ == "__main__":
    main(int(sys.argv[1]), [int(each) for each in sys.argv[2:]])
