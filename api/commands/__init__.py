"""`faal-service keys … | check`: commands for the operator, on the machine of the service."""

import argparse
import sys

from api import keys
from api.commands import check

COMMANDS = {"check": check.main, "keys": keys.main}


def main() -> int:
    """Run the command, and return its exit status."""
    parser = argparse.ArgumentParser(prog="faal-service", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    name = parser.parse_args(sys.argv[1:2]).command
    return COMMANDS[name](sys.argv[2:])
