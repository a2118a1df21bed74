"""Fuzz each target for some time, coverage-guided; or check one input again, to reproduce a defect."""

import argparse
import base64
import importlib
import importlib.util
import os
import platform
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from fuzz.target import Target

TARGETS: Final = ("outer", "inner", "names", "tlsa", "epochs", "answers", "mqtt")
_FOUND: Final = Path(__file__).parent.parent / ".fuzz"
_MOST_SHOWN: Final = 3000
_GRACE_SECONDS: Final = 120
_WHEELS: Final = "Python 3.11 to 3.14 on Linux x86_64"
_WRITTEN: Final = re.compile(r"Test unit written to (\S+)")


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if nothing was found, 1 if something was found or nothing could be tested."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.input and not options.target:
        parser.error("--input needs a target")
    if options.input:
        target: Target = importlib.import_module(f"fuzz.{options.target}").TARGET
        print(target.check(options.input.read_bytes()))
        return 0
    if importlib.util.find_spec("atheris") is None:
        here = f"Python {platform.python_version()} on {sys.platform} {platform.machine()}"
        print(f"make fuzz needs atheris, which is not installed ({here}); it has wheels for {_WHEELS}", file=sys.stderr)
        return 1
    _FOUND.mkdir(exist_ok=True)
    names = [options.target] if options.target else list(TARGETS)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return max(pool.map(lambda name: _fuzz(name, options.seconds), names))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", choices=TARGETS, help="fuzz only this target")
    parser.add_argument("--seconds", type=float, default=60, help="how long to fuzz each target (default: 60)")
    parser.add_argument("--input", type=Path, metavar="FILE", help="check only this input, without the fuzzer")
    return parser


def _fuzz(name: str, seconds: float) -> int:
    with tempfile.TemporaryDirectory() as corpus:
        command = [sys.executable, "-m", "fuzz.engine", name, str(seconds), corpus, f"{_FOUND}/{name}-"]
        try:
            run = subprocess.run(command, capture_output=True, timeout=seconds + _GRACE_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            print(f"{name}: did not end in time", flush=True)
            return 1
    if run.returncode == 0:
        print(f"{name}: {run.stdout.decode().strip()}", flush=True)
        return 0
    said = (run.stdout + run.stderr).decode(errors="replace")
    print(f"{name}: FAILED\n{said[-_MOST_SHOWN:]}", flush=True)
    for path in _WRITTEN.findall(said):
        _show(name, Path(path))
    return 1


def _show(name: str, path: Path) -> None:
    print(f"{name}: the input is in {path}; to check it again: .venv/bin/python -m fuzz {name} --input {path}")
    print(f"{name}: the input in base64: {base64.b64encode(path.read_bytes()).decode()}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
