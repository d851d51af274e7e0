"""``python -m tessy``, also for ``torchrun -m tessy`` and ``accelerate launch -m tessy``."""

import sys

from tessy.cli import main

if __name__ == "__main__":
    sys.exit(main())
