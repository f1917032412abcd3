"""python -m faal_core.cli is the same as faal."""

from faal_core.cli import main

main()
