"""The long versions of the tests: `python -m Testing.hardship [kills | messages | files | link | load | growth]`.

Prints the figures of docs/robustness.md, one line each; ends with 1 where something is not as it must be.
"""

from __future__ import annotations

import sys

from Testing.hardship.faults import fuzzed_messages, kills, mutated_files, slow_link
from Testing.hardship.growth import growth
from Testing.hardship.load import load

PARTS = {
    "kills": kills,
    "messages": fuzzed_messages,
    "files": mutated_files,
    "link": slow_link,
    "load": load,
    "growth": growth,
}

if __name__ == "__main__":
    chosen = sys.argv[1:] or list(PARTS)
    sys.exit(0 if all(PARTS[part]() for part in chosen) else 1)
