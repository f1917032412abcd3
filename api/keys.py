"""`faal-service keys create | list | revoke`: create, list and revoke API keys on the machine of the service."""

import argparse
import logging
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from api.routes.keys import KeyRequest, KeyResource, issue
from jobs import keys, startup
from jobs.database import Sessions, open_database
from jobs.errors import KeyNotFound
from jobs.keys import Scope, site_secret


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 1 with a message on stderr."""
    asked = _parser().parse_args(arguments)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with startup.faults_in_one_line():
        settings = startup.read_settings()
        startup.prepare(settings, settings.data_dir)
        secret = site_secret(settings)
    sessions = open_database(settings.database_url, pooled=False)
    try:
        if asked.action == "create":
            _create(sessions, secret, asked)
        elif asked.action == "list":
            _list(sessions)
        else:
            with sessions.begin() as session:
                print(f"{keys.revoke(session, asked.id).id} is refused from now on.")
    except (KeyNotFound, ValidationError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        sessions.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="faal-service keys", description="API keys, set up by FAAL_… variables.")
    actions = parser.add_subparsers(dest="action", required=True)
    create = actions.add_parser("create", help="make a key and print it, this once")
    create.add_argument("--owner", required=True, help="whose it is; `local` owns what was made before there were keys")
    create.add_argument("--name", default="from the command line", help="for people")
    create.add_argument("--scope", action="append", choices=[*Scope], help="default: read and submit")
    create.add_argument(
        "--max-priority", type=int, default=0, help="the highest priority of its jobs, up to 10; default: 0"
    )
    create.add_argument("--days", type=float, default=90, help="how long it lasts; 0: until it is revoked")
    actions.add_parser("list", help="all keys, newest first")
    actions.add_parser("revoke", help="refuse a key from now on").add_argument("id")
    return parser


def _create(sessions: Sessions, secret: bytes, asked: argparse.Namespace) -> None:
    """Prints the key alone on stdout, so that a script can take it."""
    fields = {"owner": asked.owner, "name": asked.name, "days": asked.days or None, "max_priority": asked.max_priority}
    wanted = KeyRequest.model_validate(fields | ({"scopes": asked.scope} if asked.scope else {}))
    made = issue(sessions, secret, wanted)
    about = made.about
    print(f"{about.id}: {', '.join(about.scopes)} as {about.owner}. It is not shown again:", file=sys.stderr)
    print(made.key)


def _list(sessions: Sessions) -> None:
    after, more = None, True
    while more:
        with sessions() as session:
            page = keys.keys(session, after=after, limit=100)
        for row in page.data:
            print(KeyResource.of(row).model_dump_json(exclude={"object"}))
            after = row.id
        more = page.has_more


if __name__ == "__main__":
    sys.exit(main())
