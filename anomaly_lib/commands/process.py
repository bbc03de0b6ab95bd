"""The process that runs ``anomaly``: its streams and signals, as shells and containers expect them."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from anomaly_lib.commands.grammar import StrictGroup

# Ctrl-C, the end that containers and schedulers ask for, and a terminal that is closed; Windows has two.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

# Seconds from a signal to the end of the process, whatever it is busy with; containers are given ten.
_PATIENCE = 8

# Seconds after which a signal that came while a module is read is sent again.
_LATER = 0.05


class Program(StrictGroup):
    """The command that is a program: it also minds the process that it runs in."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command; see `StrictCommand.main`."""
        _open_streams()
        with _signals_end_the_work():
            try:
                return super().main(*args, **options)
            finally:
                _give_up_broken_streams()


def _open_streams() -> None:
    """Open what the caller closed: the next file would get its number, and all that is printed to it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with suppress(OSError):
                handle = os.open(os.devnull, os.O_RDWR)
                if handle > number:  # the lowest free number, so it is there already
                    os.close(handle)
            setattr(sys, name, open(os.devnull, "r" if number == 0 else "w"))  # noqa: PTH123, SIM115


def _give_up_broken_streams() -> None:
    """Turn away a stream that cannot be written, so that Python does not report it when it ends."""
    for stream in (sys.__stdout__, sys.__stderr__):
        with suppress(AttributeError, OSError, ValueError):
            try:
                stream.flush()  # type: ignore[union-attr]
            except OSError:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr]
                os.close(nowhere)


@contextmanager
def _signals_end_the_work() -> Iterator[None]:
    """Let a signal end the block as an exception does, so that it cleans up; a second one is ignored.

    SIGINT is Python's `KeyboardInterrupt`, the others raise `SystemExit` with the status that a shell gives.
    Signals that are ignored, as those of what runs behind ``nohup``, stay so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {one: signal.getsignal(one) for one in _SIGNALS if signal.getsignal(one) in usual}

    def stop(number: int, frame: FrameType | None) -> None:
        if _is_import(frame) and _sent_again(number):
            return
        for one in before:
            signal.signal(one, signal.SIG_IGN)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    with _impatience():
        for one in before:
            signal.signal(one, stop)
        try:
            yield
        finally:
            for one, handler in before.items():
                if signal.getsignal(one) is not signal.SIG_IGN:  # stopped: still deaf until the process ends
                    signal.signal(one, handler)


def _is_import(frame: FrameType | None) -> bool:
    """Return whether a module is being read: an exception then ends the process, or leaves half a module."""
    while frame is not None:
        code = frame.f_code
        if code.co_name == "_find_and_load" and code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _sent_again(number: int) -> bool:
    """Send this process the signal again in a moment; return whether that is possible."""
    timer = threading.Timer(_LATER, os.kill, (os.getpid(), number))
    timer.daemon = True
    try:
        timer.start()
    except RuntimeError:  # no memory for a thread
        return False
    return True


@contextmanager
def _impatience() -> Iterator[None]:
    """End the process some seconds after a signal, even within a long call of another library.

    Python runs its handlers between two steps of its own; the number of a signal is written at once.
    """
    if os.name != "posix":
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    with suppress(RuntimeError):  # no memory for a thread
        threading.Thread(target=_end_after_a_signal, args=(reading,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)


def _end_after_a_signal(reading: int) -> None:
    while received := os.read(reading, 1):
        if received[0] in _SIGNALS:
            time.sleep(_PATIENCE)
            os._exit(128 + received[0])
    os.close(reading)
