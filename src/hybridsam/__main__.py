"""``python -m hybridsam``; see hybridsam.cli."""

import sys

from hybridsam.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
