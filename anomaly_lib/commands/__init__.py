"""The command line: one file a subcommand. Parse, call, print; no logic.

The names below are for notebooks: ``anomaly`` with all its commands, ``anomaly train`` and ``anomaly
evaluate`` by themselves, and bars.
"""

from typing import TYPE_CHECKING

from anomaly_lib.lazy import lazy_names

if TYPE_CHECKING:
    from anomaly_lib.__main__ import main as anomaly
    from anomaly_lib.commands.console import progress_bars
    from anomaly_lib.commands.evaluate import main as evaluator
    from anomaly_lib.commands.train import main as trainer

_WHERE = {
    "anomaly": "__main__.main",
    "evaluator": "commands.evaluate.main",
    "progress_bars": "commands.console.progress_bars",
    "trainer": "commands.train.main",
}

__all__ = ["anomaly", "evaluator", "progress_bars", "trainer"]

__getattr__, __dir__ = lazy_names(__name__, _WHERE)
