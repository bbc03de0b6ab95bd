"""Ctrl-C, SIGTERM and SIGHUP for work in an event loop: it is cancelled, cleans up, and the program ends."""

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

Result = TypeVar("Result")


async def stoppable(work: Coroutine[Any, Any, Result]) -> Result:
    """Await `work` and return what it returns.

    nbclient has handlers that end the kernel under a notebook which goes on waiting for it. They are in place
    when `work` has taken its first step, and these replace them.

    Raises
    ------
    KeyboardInterrupt
        SIGINT arrived, and `work` has ended after it was cancelled.
    SystemExit
        The same of SIGTERM and SIGHUP, with the status that a shell gives: 143 and 129.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(work)
    received: list[int] = []

    def stop(number: int) -> None:
        if not received:  # only once, for a second one would cancel the cleaning up
            task.cancel()
        received.append(number)

    await asyncio.sleep(0)
    with suppress(RuntimeError):  # not the main thread: signals are somebody else's
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except BaseException:  # cancelled, or failed while it cleaned up
        if not received:
            raise
    if received[0] == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + received[0])
