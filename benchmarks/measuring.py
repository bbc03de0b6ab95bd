"""What the benchmarks share: seconds, memory in a process of its own, the data, and the table."""

import json
import multiprocessing
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch

from anomaly_lib import generate_sample, read_category, sample_folder, work_folder
from anomaly_lib.datasets import Category

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long `work` takes, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def chosen_category(data: Path | None, name: str) -> Category:
    """Return the category `name` in `data`, by default of the real images or else of the generated sample."""
    if data is None and not (SHARED / "mvtec_ad" / name).is_dir():
        data, name = generate_sample(sample_folder()), "gear"
    return read_category(data or SHARED / "mvtec_ad", name)


def in_a_process_of_its_own(work: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Return the peak memory in MB of a new process that does `work(*arguments)`, and the result."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_work_and_report, args=(queue, work, arguments))
    process.start()
    peak, result = queue.get()
    process.join()
    return peak, result


def machine(category: Category) -> dict[str, Any]:
    """Return what a table says first: where, on how many threads, on what."""
    return {
        "machine": platform.processor() or platform.machine(),
        "category": category.name,
        "threads": torch.get_num_threads(),
    }


def write_table(table: dict[str, Any], output: Path | None, name: str) -> None:
    """Print the table and write it to `output`, by default into the work folder under `name`."""
    for key, value in table.items():
        click.echo(f"{key:36} {value:.4g}" if isinstance(value, float) else f"{key:36} {value}")
    output = output or work_folder() / "benchmarks" / name
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(table, indent=2) + "\n")
    click.echo(f"Written to {output}")


def _work_and_report(queue: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    result = work(*arguments)
    queue.put((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, result))
