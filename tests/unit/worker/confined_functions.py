"""Functions that `test_confinement` runs in confinement: actions that a hostile file might make a reader do."""

import ctypes
import os
import signal
import socket
import time
from pathlib import Path

from faal_core.errors import WeightsMismatch
from faal_core.specs import MAX_CLASSES
from faal_core.specs.class_names import MAX_COLUMNS, MAX_GROUPS, MAX_NAME_LENGTH


def describe(folder: Path, source: Path, *arguments: object) -> dict[str, object]:
    """Return its arguments and its environment."""
    return {"folder": str(folder), "source": str(source), "arguments": arguments, "environment": dict(os.environ)}


def refuse(folder: Path, source: Path) -> None:
    """Raise WeightsMismatch, always."""
    raise WeightsMismatch("these weights are for another network")


def quote(folder: Path, source: Path) -> None:
    """Raise WeightsMismatch with a name that is long and holds half a character."""
    raise WeightsMismatch("\ud800" + "x" * 100_000)


def summarise(folder: Path, source: Path) -> dict[str, object]:
    """Return the largest summary that a data set can have, with the characters in its names that JSON writes longest."""
    names = [f"{number:05d}".ljust(MAX_NAME_LENGTH, "\U0001f600") for number in range(MAX_CLASSES)]
    groups = {f"{column}".ljust(MAX_NAME_LENGTH, "\U0001f600"): names[:MAX_GROUPS] for column in range(MAX_COLUMNS)}
    return {"shape": [3, 32, 32], "class_names": names, "images": {"test": MAX_CLASSES}, "groups": groups}


def allocate(folder: Path, source: Path, size: int) -> int:
    """Return a block of allocated memory of that size."""
    return len(bytearray(size))


def loop(folder: Path, source: Path) -> None:
    """Run a loop without end."""
    while True:
        pass


def wait(folder: Path, source: Path) -> None:
    """Wait for ten minutes."""
    time.sleep(600)


def write(folder: Path, source: Path, size: int) -> None:
    """Write a file of that size into the folder."""
    with (folder / "large").open("wb") as file:
        file.truncate(size)


def crash(folder: Path, source: Path) -> None:
    """Read an address that the process may not read."""
    ctypes.string_at(0)


def talk(folder: Path, source: Path) -> str:
    """Return an answer of 20 MiB."""
    return "x" * 20 * 2**20


def connect(folder: Path, source: Path, port: int) -> str:
    """Connect to a server on this machine, and return "connected" or the error's name."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError as error:
        return type(error).__name__
    return "connected"


def end_as_by_the_system(folder: Path, source: Path) -> None:
    """Kill the process, as the system kills it where the machine's memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def complain(folder: Path, source: Path) -> None:
    """Raise the unexpected ValueError, with a name that holds a line break and an escape code."""
    raise ValueError("in the file \x1b[2J\nforged")


def search_memory(folder: Path, source: Path, beginning: str, end: str) -> list[str]:
    """Return where this process's memory has a text, given in two parts so that the search does not find itself."""
    first, second = beginning.encode(), end.encode()
    places = []
    with Path("/proc/self/maps").open() as maps, Path("/proc/self/mem").open("rb", buffering=0) as memory:
        for line in maps.read().splitlines():
            place, rights, *_ = line.split()
            start, stop = (int(address, 16) for address in place.split("-"))
            if not rights.startswith("rw"):
                continue
            memory.seek(start)
            content = memory.read(stop - start)
            found = content.find(first)
            while found >= 0:
                if content.startswith(second, found + len(first)):
                    places.append(line)
                found = content.find(first, found + 1)
    return places


def list_descriptors(folder: Path, source: Path) -> list[int]:
    """Return the open files of this process."""
    numbers = sorted(int(link.name) for link in Path("/proc/self/fd").iterdir())
    return [number for number in numbers if Path(f"/proc/self/fd/{number}").exists()]
