"""The process that fuzzes one target with atheris; started by `python -m fuzz`."""

import importlib
import os
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Final

import atheris

from fuzz.target import Target

_INSTRUMENTED: Final = ["idlib", "dns.name", "dns.wire"]
_MOST_OCTETS: Final = 8192
_SLOWEST_SECONDS: Final = 10
# The fuzzer drops a seed that takes no new path, and cannot see paths in code that is not instrumented.
_BEGIN_ANEW: Final = 0.2


def fuzz(target: Target, seconds: float, corpus: Path, options: list[str]) -> None:
    """Give a target one input after another; the process ends with status 0 after the time, or at the first defect.

    Args:
        target: Imported in a way that lets the fuzzer see which paths through it were taken.
        seconds: The time limit.
        corpus: A directory for the inputs that are worth changing further.
        options: Options of the fuzzer.
    """
    outcomes: Counter[str] = Counter()
    seeds = target.seeds()
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    end = time.monotonic() + seconds

    def check(octets: bytes) -> None:
        outcomes[target.check(octets)] += 1
        if time.monotonic() > end:
            counted = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.most_common())
            print(f"{outcomes.total()} inputs: {counted}", flush=True)
            os._exit(0)  # atheris ends a process only by exit()

    def mutate(octets: bytes, most: int, seed: int) -> bytes:
        generator = Random(seed)
        if generator.random() < _BEGIN_ANEW:
            octets = generator.choice(seeds)
        return target.mutate(octets, generator, atheris.Mutate)[:most]

    atheris.Setup([sys.argv[0], *options, str(corpus)], check, custom_mutator=mutate)
    atheris.Fuzz()


def main(name: str, seconds: str, corpus: str, crashes: str) -> None:
    """Fuzz the target of this name, from a corpus in a folder; a crash's input goes where `crashes` begins its path."""
    with atheris.instrument_imports(include=_INSTRUMENTED):
        target: Target = importlib.import_module(f"fuzz.{name}").TARGET
    options = [
        f"-max_len={_MOST_OCTETS}",
        f"-timeout={_SLOWEST_SECONDS}",
        f"-artifact_prefix={crashes}",
        "-verbosity=0",
    ]
    fuzz(target, float(seconds), Path(corpus), options)


if __name__ == "__main__":
    main(*sys.argv[1:])
