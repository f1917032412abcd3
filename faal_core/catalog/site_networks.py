"""Read which networks a site's own Python files offer, without executing them: the web service must not import torch.

A network is a public function at the top of a file that takes `num_classes` and `channels`. Further parameters need a default;
those annotated with bounds are arguments that a request may set.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

from faal_core.catalog.entries import ArchitectureEntry, ArgumentRange

PREFIX = "site/"
_REQUIRED = {"num_classes", "channels"}


def read_networks(path: Path) -> dict[str, ArchitectureEntry]:
    """Return the networks of that Python file, or of every public Python file in that folder, by name.

    Raises: ValueError where a file cannot be read, no network is offered, or a network cannot be built by its name.
    """
    files = sorted(path.glob("[!_]*.py")) if path.is_dir() else [path]
    networks: dict[str, ArchitectureEntry] = {}
    for file in files:
        for function in _parse(file):
            entry = _describe(function, file)
            if entry.name in networks:
                raise ValueError(f"{file.name} defines {function.name} again; give each network a name of its own")
            networks[entry.name] = entry
    if not networks:
        raise ValueError(f"{path} has no public function that takes num_classes and channels")
    return networks


def _parse(file: Path) -> Iterator[ast.FunctionDef]:
    """Yield the functions of the file that build networks. Raises: ValueError."""
    try:
        tree = ast.parse(file.read_bytes(), file.name)
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{file} is not valid Python: {error}") from None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            names = {parameter.arg for parameter in (*node.args.args, *node.args.kwonlyargs)}
            if names >= _REQUIRED:
                yield node


def _describe(function: ast.FunctionDef, file: Path) -> ArchitectureEntry:
    """Return the function's entry. Raises: ValueError where a further parameter has no default or wrong bounds."""
    arguments: dict[str, ArgumentRange] = {}
    for parameter, default in _pair_with_defaults(function.args):
        place = f"{function.name} in {file.name}"
        if parameter.arg in _REQUIRED:
            continue
        if default is None:
            hint = "give it one, or begin the function's name with an underscore"
            raise ValueError(f"the parameter {parameter.arg} of {place} has no default; {hint}")
        bounds = _read_bounds(parameter.annotation)
        if bounds is not None:
            low, high = bounds
            value = _read_integer(default)
            if value is None or not low <= value <= high:
                raise ValueError(f"the default of {parameter.arg} of {place} is no whole number from {low} to {high}")
            arguments[parameter.arg] = ArgumentRange(low, high, value)
    title = (ast.get_docstring(function) or function.name).splitlines()[0].rstrip(".")
    return ArchitectureEntry(
        f"{PREFIX}{function.name}",
        title,
        f"{file.name} of this site",
        function.name,
        MappingProxyType(arguments),
        file=file.absolute(),
    )


def _pair_with_defaults(arguments: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    """Yield each parameter that can be passed by name, with its default."""
    positional = [*arguments.posonlyargs, *arguments.args]
    missing = [None] * (len(positional) - len(arguments.defaults))
    yield from zip(positional, [*missing, *arguments.defaults], strict=True)
    yield from zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)


def _read_bounds(annotation: ast.expr | None) -> tuple[int, int] | None:
    """Return `ge` and `le` of `Annotated[int, Field(ge=…, le=…)]`, or of another call in that place; None without them."""
    match annotation:
        case ast.Subscript(slice=ast.Tuple(elts=[ast.Name(id="int"), *metadata])):
            for call in metadata:
                if isinstance(call, ast.Call):
                    values = {keyword.arg: _read_integer(keyword.value) for keyword in call.keywords}
                    low, high = values.get("ge"), values.get("le")
                    if low is not None and high is not None:
                        return low, high
    return None


def _read_integer(node: ast.expr) -> int | None:
    """Return the whole number that is written there, if it is one."""
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    return value if type(value) is int else None
