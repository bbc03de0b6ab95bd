"""What signals do to work in an event loop."""

import asyncio
import os
import signal

import pytest

from anomaly_lib.signals import stoppable


async def interrupted(cleaned_up: list[str], *numbers: int) -> None:
    """Work that sends itself signals, and takes a while to clean up."""
    loop = asyncio.get_running_loop()
    for delay, number in enumerate(numbers, 1):
        loop.call_later(delay * 0.1, os.kill, os.getpid(), number)
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.5)
        cleaned_up.append("yes")


async def one() -> int:
    return 1


def test_returns_what_the_work_returns() -> None:
    assert asyncio.run(stoppable(one())) == 1


@pytest.mark.parametrize("times", [1, 3])
def test_ctrl_c_is_raised_after_the_work_has_cleaned_up_however_often_it_comes(times: int) -> None:
    cleaned_up: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(stoppable(interrupted(cleaned_up, *[signal.SIGINT] * times)))
    assert cleaned_up == ["yes"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_program_with_its_status_after_the_work_has_cleaned_up(number: int) -> None:
    cleaned_up: list[str] = []
    with pytest.raises(SystemExit) as ended:
        asyncio.run(stoppable(interrupted(cleaned_up, number)))
    assert ended.value.code == 128 + number
    assert cleaned_up == ["yes"]


def test_work_that_is_cancelled_otherwise_is_cancelled() -> None:
    async def cancelled() -> None:
        task = asyncio.create_task(stoppable(asyncio.sleep(60)))
        await asyncio.sleep(0.1)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())


def test_handlers_are_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    asyncio.run(stoppable(one()))
    assert signal.getsignal(signal.SIGTERM) == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
