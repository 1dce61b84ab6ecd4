"""Lines of standard input as they come. Decides how they are read beside a running event loop."""

import asyncio
import codecs
import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import suppress

READ_BYTES = 64 * 1024


async def lines() -> AsyncIterator[str]:
    """Each line without its end, until the input ends; bytes that are no UTF-8 are replaced."""
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes] = asyncio.Queue()

    def pump() -> None:
        # Not `sys.stdin.readline`: a thread inside it when the process ends is a fatal error.
        # Not the loop: it cannot wait for a file, nor for a terminal without unblocking it for all.
        with suppress(RuntimeError, OSError):  # the loop is closed, the terminal is gone
            while chunk := os.read(sys.stdin.fileno(), READ_BYTES):
                loop.call_soon_threadsafe(chunks.put_nowait, chunk)
            loop.call_soon_threadsafe(chunks.put_nowait, b"")

    threading.Thread(target=pump, name="chat-input", daemon=True).start()
    decoder, rest = codecs.getincrementaldecoder("utf-8")("replace"), ""
    while chunk := await chunks.get():
        rest += decoder.decode(chunk)
        *whole, rest = rest.split("\n")
        for line in whole:
            yield line.removesuffix("\r")
    rest += decoder.decode(b"", final=True)
    if rest:
        yield rest
