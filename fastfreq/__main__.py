"""`python -m fastfreq` is `fastfreq`."""

import sys

from fastfreq.cli import main

sys.exit(main())
