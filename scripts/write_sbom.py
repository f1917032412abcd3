"""Write the contents of each image to sbom/: a CycloneDX document of its locked packages, its base image and Debian's packages.

`make sbom` runs this. Debian's packages are read from the image `faal-api` or `faal-worker`. Without Docker, or before the image
is built, they are left out, and a line says so.
"""

import argparse
import json
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LOCKS = {"api": ("api",), "worker": ("torch", "torchvision", "worker")}
IMAGE = {  # values of the locks' environment markers
    "sys_platform": "linux",
    "platform_system": "Linux",
    "os_name": "posix",
    "platform_machine": platform.machine(),
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
}


def main() -> None:
    """Write both documents. Raises: SystemExit where one is not valid."""
    parser = argparse.ArgumentParser(description="Write the contents of each image, as CycloneDX.")
    parser.add_argument("--out", type=Path, default=ROOT / "sbom", help="folder for the documents")
    out: Path = parser.parse_args().out
    out.mkdir(exist_ok=True)
    for image, locks in LOCKS.items():
        text = "".join((ROOT / f"requirements/{lock}.txt").read_text() for lock in locks)
        document = describe_python_packages(select_entries(text))
        document["components"] += [read_base_image(), *parse_debian_packages(list_debian_packages(image))]
        target = out / f"{image}.cdx.json"
        target.write_text(json.dumps(document, indent=2))
        if (fault := JsonStrictValidator(SchemaVersion.V1_6).validate_str(target.read_text())) is not None:
            raise SystemExit(f"{target} is not valid CycloneDX 1.6: {fault}")
        print(f"{target}: {len(document['components'])} components")


def select_entries(lock: str) -> str:
    """Return the entries of the lock that are installed in an image, without their markers."""
    python = {"python_version": read_python_version(), "python_full_version": f"{read_python_version()}.0"}
    entries = []
    for entry in re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]:
        pin, *hashes = entry.split(" \\\n")
        requirement = Requirement(pin)
        if requirement.marker is None or requirement.marker.evaluate(IMAGE | python):
            entries.append(" \\\n".join([f"{requirement.name}{requirement.specifier}", *hashes]))
    return "".join(entries)


def describe_python_packages(lock: str) -> dict[str, Any]:
    """Return the document of the packages in a lock, with the hashes of their files."""
    program = Path(sys.executable).with_name("cyclonedx-py")
    options = [
        "--pyproject",
        "pyproject.toml",
        "--output-reproducible",
        "--spec-version",
        "1.6",
        "--output-format",
        "JSON",
    ]
    command: list[str | Path] = [program, "requirements", *options, "-"]
    answer = subprocess.run(command, cwd=ROOT, input=lock, capture_output=True, text=True, check=True)
    document: dict[str, Any] = json.loads(answer.stdout)
    return document


def read_python_version() -> str:
    """Return the version of Python in the images, such as 3.12."""
    return read_base_image()["version"].partition("-")[0]


def read_base_image() -> dict[str, str]:
    """Return the component for the images' base, with its digest where it is pinned."""
    base = re.search(r"^FROM (\S+?):(\S+) AS runtime", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert base is not None, "the Dockerfile has no stage `runtime`"
    return {"type": "container", "bom-ref": "base-image", "name": base[1], "version": base[2]}


def list_debian_packages(image: str) -> str:
    """Return a line for each of Debian's packages in the image: name, version, architecture. It is empty without the image."""
    show = ["dpkg-query", "--show", "--showformat", r"${Package} ${Version} ${Architecture}\n"]
    command = [
        "docker",
        "run",
        "--rm",
        "--network",
        "none",
        "--pull",
        "never",
        "--entrypoint",
        show[0],
        f"faal-{image}",
        *show[1:],
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        print(
            f"Debian's packages are left out: the image faal-{image} was not found. Build it first, as the Dockerfile says."
        )
        return ""


def parse_debian_packages(lines: str) -> list[dict[str, str]]:
    """Return a component for each of Debian's packages."""
    packages = [line.split() for line in lines.splitlines()]
    return [
        {
            "type": "library",
            "bom-ref": f"debian-{name}-{architecture}",
            "name": name,
            "version": version,
            "purl": f"pkg:deb/debian/{name}@{version.replace(':', '%3A').replace('+', '%2B')}?arch={architecture}",
        }
        for name, version, architecture in packages
    ]


if __name__ == "__main__":
    main()
