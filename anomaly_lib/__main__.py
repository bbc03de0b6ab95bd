"""``python -m anomaly_lib``, the same as the console command ``anomaly``."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def _ended_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process as the system does, without a traceback: nothing is begun yet."""
    before = signal.getsignal(signal.SIGINT)
    with suppress(ValueError):  # not the main thread
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        with suppress(ValueError):
            signal.signal(signal.SIGINT, before)


with _ended_at_once():
    import click

    from anomaly_lib.commands.compare import main as compare
    from anomaly_lib.commands.data import main as data
    from anomaly_lib.commands.demo import main as demo
    from anomaly_lib.commands.evaluate import main as evaluate
    from anomaly_lib.commands.fit import main as fit
    from anomaly_lib.commands.predict import main as predict
    from anomaly_lib.commands.process import Program
    from anomaly_lib.commands.report import main as report
    from anomaly_lib.commands.tables import main as tables
    from anomaly_lib.commands.threshold import main as threshold
    from anomaly_lib.commands.train import main as train
    from anomaly_lib.commands.update import main as update


@click.group(cls=Program)
@click.version_option(package_name="anomaly_lib", prog_name="anomaly")
def main() -> None:
    """Industrial visual anomaly detection."""


for command in (train, evaluate, report, fit, predict, update, threshold, compare, tables, data, demo):
    main.add_command(command)

if __name__ == "__main__":
    main()
