"""faal fields: list the fields that `--set` and a `--spec` file can name."""

from typing import Annotated, Literal

import typer


def fields(
    command: Annotated[Literal["audit", "finetune"], typer.Argument(help="The command whose fields are listed.")],
) -> None:
    """List the fields of a command's spec, for --set and --spec, with their values, defaults and meaning."""
    from faal_core.cli.printing import print_table
    from faal_core.cli.spec_fields import command_spec, spec_fields

    listed = spec_fields(command_spec(command))
    rows = [
        [path, ", ".join(field.values), field.default, field.description]
        for path, field in listed.items()
        if not field.is_group
    ]
    print_table([["field", "values", "default", "meaning"], *rows])
