"""`python -m api.commands`: the same as `faal-service`, for an environment without its script."""

import sys

from api.commands import main

if __name__ == "__main__":
    sys.exit(main())
