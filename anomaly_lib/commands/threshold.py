"""``anomaly threshold``: what a saved model's threshold promises, and another one."""

from pathlib import Path

import click

from anomaly_lib.commands.console import say
from anomaly_lib.commands.grammar import StrictCommand


@click.command("threshold", cls=StrictCommand)
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--false_alarm_rate",
    type=float,
    help="Share of good images that the threshold may at most call anomalous; the model is saved with it.",
)
@click.option("--weights", help="File with the backbone's weights, when it is no longer where it was.")
def main(model: Path, false_alarm_rate: float | None, weights: str | None) -> None:
    """Say what the threshold of MODEL is and promises, or set it for another rate of false alarms.

    It comes from the scores of normal images that are saved with the model: nothing is fitted again.
    """
    from anomaly_lib.detectors import load_detector
    from anomaly_lib.detectors.threshold import promise
    from anomaly_lib.runs.updating import save_with_previous

    detector = load_detector(model, device="cpu", weights=weights)
    before = detector.threshold_
    if false_alarm_rate is not None:
        save_with_previous(detector.set_false_alarm_rate(false_alarm_rate), model)
        say(f"threshold {before:.6g} is now {detector.threshold_:.6g}")
    say(promise(detector))
