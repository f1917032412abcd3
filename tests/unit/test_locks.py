"""Locks: every package is pinned by version and hashes, base images by digest, and all of them are listed."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.lock import CUDA, EXTRAS, TORCH, find_wheels, parse_entries, read_version
from scripts.pin_images import FILES, IMAGE, pin_images

ROOT = Path(__file__).parents[2]
LOCKS = {path.stem: parse_entries(path.read_text()) for path in (ROOT / "requirements").glob("*.txt")}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
SOME_DIGEST = f"sha256:{'0123456789abcdef' * 4}"


def list_requirements(extras: tuple[str, ...]) -> list[Requirement]:
    """Return the project's requirements with those extras, and its build requirements."""
    lines = [*PROJECT["build-system"]["requires"], *PROJECT["project"]["dependencies"]]
    lines += [line for extra in extras for line in PROJECT["project"]["optional-dependencies"][extra]]
    requirements = [Requirement(line) for line in lines]
    nested_extras = [
        requirement
        for own in requirements
        if own.name == "faal"
        for requirement in list_requirements(tuple(own.extras))
    ]
    return [requirement for requirement in requirements if requirement.name != "faal"] + nested_extras


def read_pin(entry: str) -> tuple[str, list[str]]:
    """Return the version and the hashes of an entry."""
    return read_version(entry), re.findall(r"sha256:(\w+)", entry)


def test_every_target_has_its_lock() -> None:
    """There is a lock for each set of extras that is installed, for torch, and for the packages of its CUDA build."""
    assert LOCKS.keys() == {*EXTRAS, *TORCH, "cuda"}


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_has_one_version_and_hashes(name: str) -> None:
    """Each entry is a name, one version, a marker where it has one, and SHA-256 hashes."""
    entry_form = re.compile(r"[a-z0-9-]+==[\w.]+( ; [^\\\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n")
    assert [entry for entry in LOCKS[name].values() if not entry_form.fullmatch(entry)] == []


@pytest.mark.parametrize("name", EXTRAS)
def test_the_project_s_ranges_hold_the_locked_versions(name: str) -> None:
    """Each requirement of pyproject.toml, with the extras of that lock, is pinned within its range."""
    pins = LOCKS[name] if name == "api" else LOCKS[name] | LOCKS["torch"] | LOCKS["torchvision"]
    wrong = [
        str(requirement)
        for requirement in list_requirements(EXTRAS[name])
        if (entry := pins.get(canonicalize_name(requirement.name))) is None
        or read_version(entry) not in requirement.specifier
    ]
    assert wrong == []


@pytest.mark.parametrize("name", EXTRAS)
def test_what_locked_packages_need_is_locked(name: str) -> None:
    """Every dependency, for this machine, of a locked package that is installed here is in the lock, too."""
    pins = LOCKS[name] if name == "api" else LOCKS[name] | LOCKS["torch"] | LOCKS["torchvision"] | LOCKS["cuda"]
    missing = set()
    for package in pins:
        try:
            dependencies = map(Requirement, requires(package) or ())
        except PackageNotFoundError:  # of another platform
            continue
        missing |= {own.name for own in dependencies if own.marker is None or own.marker.evaluate({"extra": ""})}
    assert {canonicalize_name(own) for own in missing} <= pins.keys()


def test_the_locks_agree() -> None:
    """A package has the same version and hashes in each lock that names it; torch and torchvision have locks of their own."""
    for name in EXTRAS:
        assert [key for key, entry in LOCKS[name].items() if read_pin(LOCKS["dev"][key]) != read_pin(entry)] == []
        assert [key for key in LOCKS[name] if key in TORCH or CUDA.match(key)] == []


def test_a_package_of_several_versions_is_refused() -> None:
    """A lock with one version of a package for some Pythons and another for others stops the script, which names the package."""
    lock = "a==1 ; python_full_version < '3.13'\na==2 ; python_full_version >= '3.13'\nb==1\n"
    with pytest.raises(SystemExit, match="Several versions of a were locked"):
        parse_entries(lock)


@pytest.mark.parametrize("package", TORCH)
def test_the_image_s_build_of_torch_is_locked(package: str) -> None:
    """The hashes of the wheels for CPUs that the worker's image installs are among those of the lock."""
    python = re.search(r"^FROM python:(\d)\.(\d+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert python is not None
    entry = LOCKS[package][package]
    wheels = dict(reversed(line.split()) for line in (ROOT / "requirements/torch-cpu.sha256").read_text().splitlines())
    prefix = f"{package}-{read_version(entry)}+cpu-cp{python[1]}{python[2]}-"
    for machine in ("x86_64", "aarch64"):
        [digest] = [
            digest for name, digest in wheels.items() if name.startswith(prefix) and name.endswith(f"{machine}.whl")
        ]
        assert f"--hash=sha256:{digest}" in entry


def test_hashes_are_read_from_the_page_of_an_index() -> None:
    """Each wheel that has a hash is found by file name; the page is an excerpt of PyTorch's own."""
    digest = SOME_DIGEST.partition(":")[2]
    page = (
        f'<a href="/whl/cpu/torch-2.13.0%2Bcpu-cp312-cp312-manylinux_2_28_x86_64.whl#sha256={digest}" '
        f'data-dist-info-metadata="sha256=00">torch-2.13.0+cpu-cp312-cp312-manylinux_2_28_x86_64.whl</a><br/>\n'
        '<a href="/whl/cpu/torch-2.13.0-cp312-none-macosx_14_0_arm64.whl">without a hash</a>'
    )
    assert find_wheels(page) == {"torch-2.13.0+cpu-cp312-cp312-manylinux_2_28_x86_64.whl": digest}


def test_digests_stand_behind_the_images_of_others() -> None:
    """Each external image gets its digest, in place of an earlier one; our own images and stages get none."""
    text = "".join((ROOT / name).read_text("utf-8") for name in FILES)
    once = pin_images(text, lambda image: SOME_DIGEST)
    images = {match[2] for match in IMAGE.finditer(text)}
    assert {image.partition(":")[0] for image in images} == {"python", "postgres", "redis", "chrislusf/seaweedfs"}
    assert once.count(f"@{SOME_DIGEST}") == len(IMAGE.findall(text))
    other = SOME_DIGEST.replace("0", "f")
    assert pin_images(once, lambda image: other) == once.replace(SOME_DIGEST, other)
    assert re.findall(r"(?:faal-\w+|build|runtime)@", once) == []


@pytest.mark.slow
def test_what_the_images_consist_of_can_be_listed(tmp_path: Path) -> None:
    """The documents are valid CycloneDX, with each locked package of the image and its hashes, and none of other systems."""
    subprocess.run([sys.executable, "scripts/write_sbom.py", "--out", tmp_path], cwd=ROOT, check=True, timeout=120)
    for image, locks in {"api": ("api",), "worker": ("torch", "torchvision", "worker")}.items():
        document = json.loads((tmp_path / f"{image}.cdx.json").read_text())
        components = {component["name"]: component for component in document["components"]}
        locked_packages = {key: entry for lock in locks for key, entry in LOCKS[lock].items() if " ; " not in entry}
        assert {key: read_version(entry) for key, entry in locked_packages.items()}.items() <= {
            name: component["version"] for name, component in components.items()
        }.items()
        assert "colorama" not in components  # of Windows
        digest = re.search("sha256:([0-9a-f]{64})", locked_packages["numpy"])
        assert digest is not None
        assert digest[1] in json.dumps(components["numpy"])
        assert components["python"]["type"] == "container"
