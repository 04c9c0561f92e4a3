"""`python -m samesight`."""

import sys

from samesight.cli import main

sys.exit(main())
