"""python -m api.commands is the same as faal-service."""

import sys

from api.commands import main

sys.exit(main())
