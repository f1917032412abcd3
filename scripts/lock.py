"""Write the locks in requirements/: every package that is installed, with its version and the hashes of its files.

Run by `make lock`. The locks hold for Python 3.11 and later on every platform, by markers. Versions stay as they are while they
fit pyproject.toml; `python scripts/lock.py --upgrade` takes the latest.

    api, worker         what the images install
    demo, dev           what `make demo` and `make setup` install
    torch, torchvision  with the hashes of PyPI's builds and of PyTorch's own builds for CPUs
    cuda                what PyPI's builds of torch for Linux need beside these
"""

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import URLError
from urllib.request import urlopen

ROOT = Path(__file__).parents[1]
LOCKS = ROOT / "requirements"
EXTRAS = {"dev": ("dev",), "api": ("api",), "worker": ("worker", "timm"), "demo": ("cli", "api", "worker")}
TORCH = ("torch", "torchvision")
CUDA = re.compile(r"nvidia-|cuda-|triton$")  # NVIDIA's libraries, by their prefixes, and the compiler of GPU kernels
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CPU_WHEELS = LOCKS / "torch-cpu.sha256"
HEADER = "# Written by `make lock`.\n"


def main() -> None:
    """Write all locks. Raises: SystemExit where a hash cannot be had."""
    parser = argparse.ArgumentParser(description="Write requirements/*.txt.")
    parser.add_argument("--upgrade", action="store_true", help="take the latest versions that pyproject.toml allows")
    upgrade: bool = parser.parse_args().upgrade
    everything = compiled("dev", [] if upgrade else [LOCKS / f"{name}.txt" for name in ("dev", *TORCH, "cuda")])
    CPU_WHEELS.write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(cpu_wheels(everything).items())))
    cpu_hashes = [line.split() for line in CPU_WHEELS.read_text().splitlines()]
    with TemporaryDirectory() as folder:
        pins = Path(folder, "pins.txt")
        pins.write_text("".join(everything.values()))
        for name in EXTRAS:
            entries = everything if name == "dev" else compiled(name, [pins])
            write(name, {key: entry for key, entry in entries.items() if key not in TORCH and not CUDA.match(key)})
    for key in TORCH:
        write(key, {key: with_hashes(everything[key], cpu_hashes, key)})
    write("cuda", {key: entry for key, entry in everything.items() if CUDA.match(key)})


def compiled(name: str, known: list[Path]) -> dict[str, str]:
    """Return the entry of each package that the extras and the build need; versions of `known` files are kept."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["build-system"]["requires"]
    extras = [argument for extra in EXTRAS[name] for argument in ("--extra", extra)]
    with TemporaryDirectory() as folder:
        source, target = Path(folder, "build.in"), Path(folder, "lock.txt")
        source.write_text("\n".join(build))
        target.write_text("".join(path.read_text() for path in known if path.exists()))  # uv prefers its versions
        options = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-annotate", "--no-header"]
        uv = Path(sys.executable).with_name("uv")
        command = [uv, "pip", "compile", "--quiet", *options, *extras, "-o", target, "pyproject.toml", source]
        subprocess.run(command, cwd=ROOT, check=True)
        return entries_of(target.read_text())


def entries_of(lock: str) -> dict[str, str]:
    """Return the lines of each package in a lock by the package's name."""
    entries = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]
    return {entry.partition("==")[0]: entry for entry in entries}


def cpu_wheels(entries: dict[str, str]) -> dict[str, str]:
    """Return the digest of each of PyTorch's wheels for Linux on CPUs by file name; those known where the index is away."""
    wheels: dict[str, str] = {}
    for package in TORCH:
        prefix = f"{package}-{version_of(entries[package])}+cpu-"
        try:
            with urlopen(f"{CPU_INDEX}/{package}/", timeout=60) as page:
                listed = wheels_on(page.read().decode())
        except URLError as error:
            print(f"{CPU_INDEX} cannot be reached ({error.reason}): the hashes in {CPU_WHEELS.name} are kept.")
            listed = {name: digest for digest, name in map(str.split, CPU_WHEELS.read_text().splitlines())}
        chosen = {name: digest for name, digest in listed.items() if name.startswith(prefix) and "linux" in name}
        if not chosen:
            raise SystemExit(f"There is no hash for {prefix}…; run this where {CPU_INDEX} can be reached.")
        wheels |= chosen
    return wheels


def wheels_on(page: str) -> dict[str, str]:
    """Return the digest of each wheel that a page of an index links to by file name."""
    links = re.findall(r'href="[^"]*?([^"/]+\.whl)#sha256=([0-9a-f]{64})"', page)
    return {name.replace("%2B", "+"): digest for name, digest in links}


def version_of(entry: str) -> str:
    """Return the version that an entry pins."""
    return re.split(r"[ ;\\\n]", entry.partition("==")[2])[0]


def with_hashes(entry: str, digests: list[list[str]], package: str) -> str:
    """Return the entry with the hashes of the package's wheels added, unless uv has kept them."""
    pin, *hashes = entry.rstrip().split(" \\\n")
    added = [f"    --hash=sha256:{digest}" for digest, name in digests if name.startswith(f"{package}-")]
    return " \\\n".join([pin, *sorted({*hashes, *added})]) + "\n"


def write(name: str, entries: dict[str, str]) -> None:
    """Write the lock of that name."""
    (LOCKS / f"{name}.txt").write_text(HEADER + "".join(entries[key] for key in sorted(entries)))
    print(f"requirements/{name}.txt: {len(entries)} packages")


if __name__ == "__main__":
    main()
