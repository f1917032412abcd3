"""`faal-service keys create | list | revoke`: create, list and revoke API keys on the machine of the service."""

import argparse
import logging
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from api.access.administration import issue_key
from api.schemas.requests import KeyRequest
from api.schemas.rows import describe_key
from faal_client.vocabulary import Scope
from jobs import keys, startup
from jobs.database import Sessions, open_database
from jobs.errors import KeyNotFound
from jobs.keys import site_secret


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Return its exit status: 0, or 1 with a message on stderr."""
    options = _parser().parse_args(arguments)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with startup.exit_on_fault():
        settings = startup.read_settings()
        startup.prepare(settings, settings.data_dir)
        secret = site_secret(settings)
    sessions = open_database(settings.database_url, pooled=False)
    try:
        if options.action == "create":
            _create(sessions, secret, options)
        elif options.action == "list":
            _list(sessions, options.owner)
        else:
            with sessions.begin() as session:
                print(f"{keys.revoke(session, options.id).id} is refused from now on.")
    except (KeyNotFound, ValidationError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        sessions.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="faal-service keys", description="Create, list and revoke API keys.")
    actions = parser.add_subparsers(dest="action", required=True)
    create = actions.add_parser("create", help="create a key and print it, only this once")
    create.add_argument(
        "--owner",
        required=True,
        help="owner of the key; the owner of the first key takes over all objects from before it",
    )
    create.add_argument("--name", default="from the command line", help="name of the key, for people")
    create.add_argument("--scope", action="append", choices=[*Scope], help="default: read and submit")
    create.add_argument(
        "--max-priority", type=int, default=0, help="the highest priority of its jobs, up to 10; default: 0"
    )
    create.add_argument("--days", type=float, default=90, help="days until the key expires; 0: never; default: 90")
    listing = actions.add_parser("list", help="list all keys, newest first")
    listing.add_argument("--owner", help="list only the keys of this owner")
    actions.add_parser("revoke", help="refuse a key from now on").add_argument("id")
    return parser


def _create(sessions: Sessions, secret: bytes, options: argparse.Namespace) -> None:
    """Create a key. Print only the key on stdout, so that scripts can read it."""
    fields = {
        "owner": options.owner,
        "name": options.name,
        "days": options.days or None,
        "max_priority": options.max_priority,
    }
    request = KeyRequest.model_validate(fields | ({"scopes": options.scope} if options.scope else {}))
    new = issue_key(sessions, secret, request)
    row = new.resource
    with sessions() as session:
        valid_keys = keys.count_valid_keys(session, row.owner)
    others = f"which has {valid_keys} valid keys now" if valid_keys > 1 else "which has no other valid key"
    print(f"{row.id}: {', '.join(row.scopes)} as {row.owner}, {others}. It is not shown again:", file=sys.stderr)
    print(new.key)


def _list(sessions: Sessions, owner: str | None) -> None:
    after, more = None, True
    while more:
        with sessions() as session:
            page = keys.list_keys(session, owner=owner, after=after, limit=100)
        for row in page.data:
            print(describe_key(row).model_dump_json(exclude={"object"}))
            after = row.id
        more = page.has_more


if __name__ == "__main__":
    sys.exit(main())
