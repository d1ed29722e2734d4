"""`python3 -m steeltown_server`: everything it needs comes from the environment (settings.py)."""

import os
import sys

from .lifecycle import main

if __name__ == "__main__":
    sys.exit(main(os.environ))
