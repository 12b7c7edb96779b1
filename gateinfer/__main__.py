"""`python -m gateinfer`."""

import sys

from gateinfer.cli import main

sys.exit(main())
