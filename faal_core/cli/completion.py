"""Completion in a shell: of names in the catalog, and of the paths of a spec's fields."""

from collections.abc import Iterable, Iterator

import typer

Completions = Iterator[tuple[str, str]]


def architectures(incomplete: str) -> Completions:
    """Yield the architectures whose names begin so, each with its title."""
    from faal_core import catalog

    return _beginning(incomplete, ((entry.name, entry.title) for entry in catalog.architectures().values()))


def datasets(incomplete: str) -> Completions:
    """Yield the named data sets whose names begin so, each with its title."""
    from faal_core import catalog

    return _beginning(incomplete, ((entry.name, entry.title) for entry in catalog.datasets().values()))


def presets(incomplete: str) -> Completions:
    """Yield the attack presets whose names begin so, each with its title."""
    from faal_core import catalog

    return _beginning(incomplete, ((entry.name, entry.title) for entry in catalog.PRESETS.values()))


def methods(incomplete: str) -> Completions:
    """Yield the methods whose names begin so, each as reports name it."""
    from faal_core.specs import METHODS

    return _beginning(incomplete, ((method.type, str(method)) for method in (kind() for kind in METHODS)))


def settings(context: typer.Context, incomplete: str) -> Completions:
    """Yield `PATH=` for each field of the running command's spec whose path begins so."""
    from faal_core.cli.spec_fields import command_spec, spec_fields

    fields = spec_fields(command_spec(context.info_name or ""))
    return _beginning(incomplete, ((f"{path}=", field.description) for path, field in fields.items()))


def _beginning(incomplete: str, offered: Iterable[tuple[str, str]]) -> Completions:
    return ((name, title) for name, title in offered if name.startswith(incomplete))
