"""Describe the machine that writes a pack, and list its installed packages, without names of hosts, users or folders."""

import platform
import re
from importlib import metadata
from urllib.parse import quote

from faal_core import __version__


def describe_environment(*, with_pdf: bool = False) -> dict[str, str]:
    """Return the versions of FAAL and Python, the operating system and the kind of processor.

    Args:
        with_pdf: also return the version of typst, which wrote the PDF in the pack.
    """
    return {
        **({"typst": metadata.version("typst")} if with_pdf else {}),
        "faal": __version__,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "machine": platform.machine(),
    }


def list_packages() -> dict[str, object]:
    """Return the installed Python packages as a CycloneDX 1.6 document, in the order of their names."""
    packages = {
        (re.sub(r"[-_.]+", "-", one.metadata["Name"]).lower(), one.version)
        for one in metadata.distributions()
        if one.metadata["Name"] and one.version
    }
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "components": [
            {
                "type": "library",
                "bom-ref": f"pkg:pypi/{name}@{quote(version)}",
                "name": name,
                "version": version,
                "purl": f"pkg:pypi/{name}@{quote(version)}",
            }
            for name, version in sorted(packages)
        ],
    }
