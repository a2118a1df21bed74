"""`python -m build_hooks DIRECTORY` writes the completion scripts and the man pages, below `share/` in a directory."""

import argparse
from pathlib import Path

from build_hooks.completion import completion_scripts
from build_hooks.manual import man_pages


def main() -> None:
    """Write the files into the directory on the command line."""
    line = argparse.ArgumentParser(prog="python -m build_hooks", allow_abbrev=False)
    line.add_argument("directory", metavar="DIRECTORY", type=Path, help="created if it is missing")
    directory: Path = line.parse_args().directory
    for name, text in {**completion_scripts(), **man_pages()}.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
