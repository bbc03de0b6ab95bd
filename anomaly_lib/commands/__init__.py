"""The command line: one file a subcommand. Parse, call, print; no logic.

The names below are for notebooks: the commands ``anomaly train`` and ``anomaly evaluate``, and bars; all of
them are `anomaly_lib.anomaly`.
"""

from typing import TYPE_CHECKING

from anomaly_lib.lazy import lazy_names

if TYPE_CHECKING:
    from anomaly_lib.commands.console import progress_bars
    from anomaly_lib.commands.evaluate import main as evaluator
    from anomaly_lib.commands.train import main as trainer

_WHERE = {
    "evaluator": "commands.evaluate.main",
    "progress_bars": "commands.console.progress_bars",
    "trainer": "commands.train.main",
}

__all__ = ["evaluator", "progress_bars", "trainer"]

__getattr__, __dir__ = lazy_names(__name__, _WHERE)
