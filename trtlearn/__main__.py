"""``trtlearn`` and ``python -m trtlearn``: the command line, or how to install it."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status is 0 for done and 2 for bad input."""
    try:
        from .cli.main import run
    except ModuleNotFoundError as missing:
        print(f"trtlearn: {missing}", file=sys.stderr)
        return 2
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
