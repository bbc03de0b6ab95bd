"""What a fit takes alone, and beside a second one on the same cores, as ratios in one run.

    pipenv run benchmark-shared-cores [--images 60] [--rounds 2] [--data FOLDER --category NAME]

Each fit is PatchCore's, in a process of its own; two start at the same moment, and the slower one counts. All
ratios are to one fit alone whose threads spin while they wait, as torch's do by default. That reference and
`spinning_two` set GOMP_SPINCOUNT to libgomp's own default: the library leaves alone what the user has set.
"""

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from measuring import chosen_category, machine, write_table

# Says when it is ready, fits when it is told to, and prints the seconds on the clock and those of processors.
PROGRAM = """
import sys, time, warnings
import {first}
from pathlib import Path
from anomaly_lib import ImageFiles, PatchCore, Transform
warnings.simplefilter("ignore")
model = PatchCore(coreset=0.01, transform=Transform(256, 224), device="cpu")
images = ImageFiles([Path(file) for file in sys.argv[1:]], model.transform)
print("ready", flush=True)
sys.stdin.readline()
clock, processors = time.perf_counter(), time.process_time()
model.fit(images)
print(time.perf_counter() - clock, time.process_time() - processors)
"""

# What is imported first, and what the environment says.
CASES: dict[str, tuple[str, dict[str, str]]] = {
    "spinning": ("torch", {"GOMP_SPINCOUNT": "300000"}),
    "library_first": ("anomaly_lib", {}),
    "torch_first": ("torch", {}),
}

Seconds = tuple[float, float]
"""On the clock, and of processors."""


def fits_at_once(case: str, number: int, files: Sequence[Path]) -> Seconds:
    """Return the seconds of the slower one of so many fits that start at the same moment."""
    first, settings = CASES[case]
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", PROGRAM.format(first=first), *map(str, files)]
    processes = [
        subprocess.Popen(
            command, env=ours | settings, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        for _ in range(number)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
    answers = [process.communicate()[0].split() for process in processes]
    return max((float(clock), float(processors)) for clock, processors in answers)


@click.command()
@click.option("--images", default=60, show_default=True, help="Images to fit on.")
@click.option("--rounds", default=2, show_default=True)
@click.option("--data", type=click.Path(path_type=Path), help="Folder of categories.")
@click.option("--category", "name", default="bottle", show_default=True)
@click.option("--output", type=click.Path(path_type=Path))
def main(images: int, rounds: int, data: Path | None, name: str, output: Path | None) -> None:
    """Measure, print and write the median seconds of a fit alone and beside another, and their ratios."""
    category = chosen_category(data, name)
    files = category.train[:images]
    runs = [(case, number, word) for case in CASES for number, word in ((1, "alone"), (2, "two"))]
    found: dict[str, list[Seconds]] = {f"{case}_{word}": [] for case, _, word in runs}
    for _ in range(rounds):  # in turn, since the machine's load changes
        for case, number, word in runs:
            found[f"{case}_{word}"].append(fits_at_once(case, number, files))
    table = machine(category) | {"images": len(files)}
    for run, seconds in found.items():
        table[f"{run}_s"] = statistics.median(clock for clock, _ in seconds)
        table[f"{run}_processor_s"] = statistics.median(processors for _, processors in seconds)
        table[f"{run}_ratio"] = table[f"{run}_s"] / table["spinning_alone_s"]
    write_table(table, output, "shared_cores.json")


if __name__ == "__main__":
    main()
