"""How soon `enrichlog --help` is there, beside importing two of the libraries it stands on."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from bench.rounds import Side, Target, compare

CHECKOUT = Path(__file__).parent.parent
OURS, BASELINE = "enrichlog --help", "import openai, sqlalchemy"


def main() -> None:
    """Measure whole processes, from start to end."""
    sides = {OURS: _process(str(CHECKOUT / "cli.py"), "--help"), BASELINE: _process("-c", BASELINE)}
    compare("help", "seconds", sides, [Target(OURS, BASELINE, 0.4, at_most=True)], rounds=15)


def _process(*arguments: str) -> Side:
    def run() -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started

    return run


if __name__ == "__main__":
    main()
