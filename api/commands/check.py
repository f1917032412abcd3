"""`faal-service check`: read every stored file, and list those that are missing or damaged."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from jobs import artifacts, startup
from jobs.database import DatabaseFailure, open_database
from jobs.errors import StoreUnavailable
from jobs.storage import open_storage

LOST = 1
NOT_CHECKED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a JSON line for each lost file, and return the exit status.

    The status is 0 if no file is lost, 1 if files are lost, and 2 if the storage or the database fails.
    """
    argparse.ArgumentParser(prog="faal-service check", description=__doc__).parse_args(arguments)
    with startup.exit_on_fault():
        settings = startup.read_settings()
    sessions, lost = open_database(settings.database_url, pooled=False), 0
    try:
        for file in artifacts.check_files(sessions, open_storage(settings)):
            print(json.dumps(asdict(file)), flush=True)
            lost += 1
    except (StoreUnavailable, DatabaseFailure) as failure:
        print(f"Not every file was checked: {failure}", file=sys.stderr)
        return NOT_CHECKED
    finally:
        sessions.close()
    print(f"{lost} files are lost." if lost else "No stored file is missing or damaged.", file=sys.stderr)
    return LOST if lost else 0
