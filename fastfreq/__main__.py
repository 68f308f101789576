"""`python -m fastfreq`, also under torchrun."""

import os
import sys

from fastfreq.cli import main
from fastfreq.cli._refusals import rank

if __name__ == "__main__":
    code = main()
    if rank() >= 0:  # threads that torch.distributed leaves running have aborted processes whose work was done
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise SystemExit(code)
