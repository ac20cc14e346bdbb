"""One door to one server: what connects here is passed on to it, and nothing else can be reached."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

_CHUNK = 2**20
_CONNECT_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 2.0


@contextmanager
def relay(address: str, target: str) -> Iterator[str]:
    """Pass connections on to a server until the block ends.

    Parameters
    ----------
    address
        The address of this machine to listen at.
    target
        ``host:port`` of the server.

    Yields
    ------
    str
        ``host:port`` to connect to.

    Raises
    ------
    OSError
        If this machine has no such address.
    """
    listener = socket.create_server((address, 0))
    loop = asyncio.new_event_loop()
    door = _Door(target)
    thread = threading.Thread(target=_run, args=(loop, door.serve(listener)), name="relay", daemon=True)
    thread.start()
    try:
        yield f"{address}:{listener.getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(door.closing.set)
        thread.join()


class _Door:
    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._open: set[asyncio.StreamWriter] = set()
        self.closing = asyncio.Event()

    async def serve(self, listener: socket.socket) -> None:
        """Pass connections on until it is to close, and cut those that are left."""
        server = await asyncio.start_server(self._connected, sock=listener, limit=_CHUNK)
        await self.closing.wait()
        server.close()
        for writer in self._open:
            writer.transport.abort()  # which ends the tasks that read from it
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=_CLOSE_TIMEOUT_S)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = asyncio.open_connection(self._host, self._port, limit=_CHUNK)
            far_reader, far_writer = await asyncio.wait_for(there, _CONNECT_TIMEOUT_S)
        except (OSError, TimeoutError):
            writer.close()  # the client sees a server that does not answer, and says so
            return
        pair = {writer, far_writer}
        self._open |= pair
        await asyncio.gather(_pass_on(reader, far_writer), _pass_on(far_reader, writer))
        self._open -= pair


def _run(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
    asyncio.set_event_loop(loop)
    loop.run_until_complete(work)
    loop.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()
