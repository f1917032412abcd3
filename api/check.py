"""`faal-service check`: reads every stored file, and lists those that are missing or damaged."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from jobs import artifacts
from jobs.database import open_database
from jobs.errors import StoreUnavailable
from jobs.settings import Settings
from jobs.storage import open_storage

LOST = 1
NOT_CHECKED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a JSON line a lost file; the exit status is 0 where there is none, 1 where there are, 2 where storage fails."""
    argparse.ArgumentParser(prog="faal-service check", description=__doc__).parse_args(arguments)
    settings = Settings()
    sessions, lost = open_database(settings.database_url, pooled=False), 0
    try:
        for file in artifacts.check_all(sessions, open_storage(settings)):
            print(json.dumps(asdict(file)), flush=True)
            lost += 1
    except StoreUnavailable as away:
        print(away.message, file=sys.stderr)
        return NOT_CHECKED
    finally:
        sessions.close()
    print(f"{lost} files are lost." if lost else "Every stored file is whole.", file=sys.stderr)
    return LOST if lost else 0


if __name__ == "__main__":
    sys.exit(main())
