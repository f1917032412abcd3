"""Build a network by a function in a Python file, which is executed."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from faal_core.errors import InvalidSpec


def import_file(file: Path) -> ModuleType:
    """Execute a Python file once in this process and return it as a module; it may import the files beside it.

    Raises: InvalidSpec where the file is missing; the file's own errors.
    """
    name = f"{file.stem} ({file})"  # no importable name, so that it hides no other module
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, file)
    if not file.is_file():
        raise InvalidSpec(f"There is no file {file}.")
    if spec is None or spec.loader is None:
        raise InvalidSpec(f"{file} is no Python file.")
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))  # at the end, so that a file beside it hides no installed module
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
