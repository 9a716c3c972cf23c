"""``trtlearn`` and ``python -m trtlearn``: the command line, or how to install it."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status is 0 for done, 2 for bad input, 130 for Ctrl-C."""
    try:
        from .cli.main import run

        return run(arguments)
    except KeyboardInterrupt:  # while it imports
        print("trtlearn: stopped by Ctrl-C", file=sys.stderr)
        return 130
    except ModuleNotFoundError as missing:
        print(f"trtlearn: {missing}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
