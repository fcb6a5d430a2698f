"""``python -m mlpx`` is the command ``mlpx``."""

import sys

from mlpx.cli import main

sys.exit(main())
