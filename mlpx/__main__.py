"""``python -m mlpx`` is the command ``mlpx``."""

import sys

from mlpx.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
