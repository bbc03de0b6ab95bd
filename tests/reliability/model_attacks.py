"""Attack the reading of models with damaged and hostile files, in a process of its own: NUMBER and FOLDER.

Prints one JSON object a line: before an attack its name, and at the end what was found. The outcome of each
is "sentence" (an `AnomalyError` of one line that can be printed), "same" (what was read gives what the whole
file gives) or "other" (something finite; only where a number was changed that nothing tells from a whole one,
and the checksums with it). No program is started, no address asked, no module imported, nothing opened for
writing or outside of the folder, and memory and time are bounded.
"""

import json
import os
import resource
import shutil
import signal
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from model_mutations import BYTES, KINDS, Mutation, strangers
from model_seeds import Seed, seeds

from anomaly_lib.errors import AnomalyError
from anomaly_lib.networks import weights

MEMORY = 3 << 30  # bytes above what the process has when it begins
SECONDS = 30
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
PROGRAMS = ("subprocess.", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.fork", "pty.", "socket.")


@dataclass(frozen=True)
class Attack:
    """A seed and what is done to it; `expected` outcomes."""

    name: str
    seed: Seed
    mutate: Callable[[Path], None]
    expected: frozenset[str]


def attacks(number: int, found: list[Seed]) -> Iterator[Attack]:
    """Yield those that are written down, and as many drawn at random."""
    for seed in found:
        yield Attack(f"whole {seed.name}", seed, lambda folder: None, frozenset({"same"}))
    for kind, name, mutate in strangers():
        for seed in [seed for seed in found if seed.kind == kind][:1]:
            yield Attack(f"stranger {name}", seed, mutate, frozenset({"sentence"}))
    for i in range(number):
        rng = np.random.default_rng([8, i])
        seed = found[i % len(found)]
        kinds: list[Mutation] = [*KINDS.get(seed.kind, []), *BYTES]
        mutation = kinds[int(rng.integers(len(kinds)))]
        free = mutation.free or (seed.unsealed and mutation.kind == "bytes")
        expected = {"sentence", "same", "other"} if free else {"sentence", "same"}
        yield Attack(
            f"{i} {mutation.name} {seed.name}", seed, lambda folder, m=mutation, r=rng: m.apply(folder, r),  # type: ignore[misc]
            frozenset(expected),
        )  # fmt: skip


def outcome(seed: Seed, folder: Path) -> str:
    """Read what was attacked and use it; return the outcome, or what is wrong about it."""
    try:
        result = seed.use(folder)
    except AnomalyError as error:
        said = str(error)
        return "sentence" if said.isprintable() and len(said) < 3000 else f"{said[:200]!r} is no sentence"
    except BaseException as error:
        import traceback

        frames = traceback.extract_tb(error.__traceback__)[-3:]
        where = " < ".join(f"{Path(one.filename).name}:{one.lineno}" for one in frames[::-1])
        return f"{type(error).__name__}: {error} ({where})"[:400]
    if not all(np.isfinite(values).all() for values in result if values.dtype.kind == "f"):
        return "not finite"
    equal = [values.shape == whole.shape and np.array_equal(values, whole)
             for values, whole in zip(result, seed.result, strict=False)]  # fmt: skip
    return "same" if all(equal) and len(result) == len(seed.result) else "other"


class Watch:
    """What a process does that reading should not."""

    def __init__(self, folders: list[Path]) -> None:
        self.on = False
        self.seen: list[str] = []
        self._folders = tuple(str(folder) for folder in folders)
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.on and (
            event.startswith(PROGRAMS) or event in ("exec", "import") or self._opens(event, arguments)
        ):
            self.seen.append(f"{event} {arguments[0]!r}"[:200])

    def _opens(self, event: str, arguments: tuple[object, ...]) -> bool:
        if event != "open" or isinstance(arguments[0], int):
            return False
        path = os.fsdecode(arguments[0])  # type: ignore[arg-type]
        return bool(int(str(arguments[2])) & WRITING) or not path.startswith(self._folders)


def too_long(number: int, frame: object) -> None:
    raise TimeoutError(f"it takes more than {SECONDS} s")


def no_hub() -> None:
    """Stand in for a look at the hub: a file may name a backbone whose weights are there, and only there."""
    raise OSError("this machine is offline")


def main() -> None:
    """Run the attacks."""
    weights._check_hub_answers = no_hub
    "".encode("raw_unicode_escape")  # old pickles' strings: Python imports it when it is first used
    number, folder = int(sys.argv[1]), Path(sys.argv[2]).resolve()
    warnings.simplefilter("ignore")
    tempfile.tempdir = str(folder)
    found = seeds(folder / "seeds")
    place = folder / "attacked"
    allowed = [
        place,
        folder / "seeds" / "tiny.pth",
        Path("/proc/self"),
        Path("/proc/stat"),
        Path("/dev/null"),
        Path("/sys"),
    ]
    allowed += [Path(sysconfig.get_paths()[name]) for name in ("stdlib", "purelib", "platlib")]
    watch = Watch(allowed)
    status = Path("/proc/self/statm").read_text().split()
    limit = int(status[0]) * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGALRM, too_long)
    counts, wrong = {"sentence": 0, "same": 0, "other": 0}, {}
    for attack in attacks(number, found):
        print(json.dumps({"attack": attack.name}), flush=True)
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(attack.seed.folder, place)
        attack.mutate(place)
        watch.on = not attack.name.startswith("whole")
        signal.alarm(SECONDS)
        result = outcome(attack.seed, place)
        signal.alarm(0)
        watch.on = False
        if result not in attack.expected or watch.seen:
            wrong[attack.name] = [result, *watch.seen]
            watch.seen.clear()
        else:
            counts[result] += 1
    shutil.rmtree(place)
    watch.on = True
    sys.audit("subprocess.Popen", "to see that it would be heard", [], None, None)
    print(json.dumps({"counts": counts, "wrong": wrong, "heard": len(watch.seen)}))


if __name__ == "__main__":
    main()
