"""Write the locks in requirements/: every package to install, with its version and the hashes of its files.

`make lock` runs this. The locks hold for Python 3.11 and later on every platform, by markers. Versions that still fit
pyproject.toml stay the same; `python scripts/lock.py --upgrade` takes the latest.

    api, worker         what the images install
    demo, dev           what `make demo` and `make setup` install
    docs                what builds the guide, which the image of the web service contains
    torch, torchvision  with the hashes of PyPI's builds and of PyTorch's own builds for CPUs
    cuda                more packages that PyPI's builds of torch for Linux need
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
EXTRAS["docs"] = ("docs", *EXTRAS["demo"])
TORCH = ("torch", "torchvision")
CUDA = re.compile(r"nvidia-|cuda-|triton$")  # NVIDIA's libraries, by their prefixes, and the compiler of GPU kernels
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CPU_WHEELS = LOCKS / "torch-cpu.sha256"
HEADER = "# Written by `make lock`.\n"


def main() -> None:
    """Write all locks. Raises: SystemExit where a hash is not available."""
    parser = argparse.ArgumentParser(description="Write requirements/*.txt.")
    parser.add_argument("--upgrade", action="store_true", help="take the latest versions that pyproject.toml allows")
    upgrade: bool = parser.parse_args().upgrade
    all_entries = compile_lock("dev", [] if upgrade else [LOCKS / f"{name}.txt" for name in ("dev", *TORCH, "cuda")])
    CPU_WHEELS.write_text(
        "".join(f"{digest}  {name}\n" for name, digest in sorted(collect_cpu_wheels(all_entries).items()))
    )
    cpu_hashes = [line.split() for line in CPU_WHEELS.read_text().splitlines()]
    with TemporaryDirectory() as folder:
        pins = Path(folder, "pins.txt")
        pins.write_text("".join(all_entries.values()))
        for name in EXTRAS:
            entries = all_entries if name == "dev" else compile_lock(name, [pins])
            write(name, {key: entry for key, entry in entries.items() if key not in TORCH and not CUDA.match(key)})
    for key in TORCH:
        write(key, {key: add_hashes(all_entries[key], cpu_hashes, key)})
    write("cuda", {key: entry for key, entry in all_entries.items() if CUDA.match(key)})


def compile_lock(name: str, earlier: list[Path]) -> dict[str, str]:
    """Return the entry of each package that the extras and the build need; the versions in `earlier` locks are preferred."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["build-system"]["requires"]
    extras = [argument for extra in EXTRAS[name] for argument in ("--extra", extra)]
    with TemporaryDirectory() as folder:
        source, target = Path(folder, "build.in"), Path(folder, "lock.txt")
        source.write_text("\n".join(build))
        target.write_text("".join(path.read_text() for path in earlier if path.exists()))  # uv prefers its versions
        options = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-annotate", "--no-header"]
        uv = Path(sys.executable).with_name("uv")
        command: list[str | Path] = [
            uv,
            "pip",
            "compile",
            "--quiet",
            *options,
            *extras,
            "-o",
            target,
            "pyproject.toml",
            source,
        ]
        subprocess.run(command, cwd=ROOT, check=True)
        return parse_entries(target.read_text())


def parse_entries(lock: str) -> dict[str, str]:
    """Return the lines of each package in a lock by the package's name.

    Raises: SystemExit where a package has several versions, each for some versions of Python.
    """
    entries = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]
    packages = [entry.partition("==")[0] for entry in entries]
    if several := sorted({name for name in packages if packages.count(name) > 1}):
        raise SystemExit(f"Several versions of {', '.join(several)} were locked. Bound each to one in pyproject.toml.")
    return dict(zip(packages, entries, strict=True))


def collect_cpu_wheels(entries: dict[str, str]) -> dict[str, str]:
    """Return the digests of PyTorch's wheels for Linux on CPUs by file name; without the index, those of the last run."""
    wheels: dict[str, str] = {}
    for package in TORCH:
        prefix = f"{package}-{read_version(entries[package])}+cpu-"
        try:
            with urlopen(f"{CPU_INDEX}/{package}/", timeout=60) as page:
                available = find_wheels(page.read().decode())
        except URLError as error:
            print(f"{CPU_INDEX} cannot be reached ({error.reason}): the hashes in {CPU_WHEELS.name} stay as they are.")
            available = {name: digest for digest, name in map(str.split, CPU_WHEELS.read_text().splitlines())}
        matching = {name: digest for name, digest in available.items() if name.startswith(prefix) and "linux" in name}
        if not matching:
            raise SystemExit(f"No hash was found for {prefix}…. Run this where {CPU_INDEX} can be reached.")
        wheels |= matching
    return wheels


def find_wheels(page: str) -> dict[str, str]:
    """Return the digest of each wheel that an index page links to, by file name."""
    links = re.findall(r'href="[^"]*?([^"/]+\.whl)#sha256=([0-9a-f]{64})"', page)
    return {name.replace("%2B", "+"): digest for name, digest in links}


def read_version(entry: str) -> str:
    """Return the version that an entry pins."""
    return re.split(r"[ ;\\\n]", entry.partition("==")[2])[0]


def add_hashes(entry: str, digests: list[list[str]], package: str) -> str:
    """Return the entry with the hashes of the package's wheels, without duplicates."""
    pin, *hashes = entry.rstrip().split(" \\\n")
    wheel_hashes = [f"    --hash=sha256:{digest}" for digest, name in digests if name.startswith(f"{package}-")]
    return " \\\n".join([pin, *sorted({*hashes, *wheel_hashes})]) + "\n"


def write(name: str, entries: dict[str, str]) -> None:
    """Write the lock of that name."""
    (LOCKS / f"{name}.txt").write_text(HEADER + "".join(entries[key] for key in sorted(entries)))
    print(f"requirements/{name}.txt: {len(entries)} packages")


if __name__ == "__main__":
    main()
