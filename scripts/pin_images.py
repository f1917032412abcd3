"""Write the digests of all images from elsewhere into Dockerfile and docker-compose.yml: `python:3.12-slim@sha256:…`.

Run by `make pin-images`, again whenever a base image was mended. Docker's buildx asks the registries; one digest holds for all
platforms.
"""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = ("Dockerfile", "docker-compose.yml")
IMAGE = re.compile(r"^((?:FROM|\s+image:) )([a-z0-9./_-]+:[\w.-]+)(?:@sha256:[0-9a-f]{64})?", re.MULTILINE)


def main() -> None:
    """Write both files. Raises: SystemExit, before anything is written, where a digest cannot be had."""
    texts = {name: pinned((ROOT / name).read_text("utf-8"), digest_of) for name in FILES}
    for name, text in texts.items():
        (ROOT / name).write_text(text, "utf-8")
        print(f"wrote {name}")


def pinned(text: str, digest: Callable[[str], str]) -> str:
    """Return the text with a digest behind each image that has a tag; our own images and stages have none."""
    return IMAGE.sub(lambda match: f"{match[1]}{match[2]}@{digest(match[2])}", text)


def digest_of(image: str) -> str:
    """Return the digest that the registry has for the image today. Raises: SystemExit where it cannot be had."""
    command = ["docker", "buildx", "imagetools", "inspect", image, "--format", "{{.Manifest.Digest}}"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise SystemExit(f"The digest of {image} cannot be had without Docker: {error}") from None
    if asked.returncode or not re.fullmatch("sha256:[0-9a-f]{64}", asked.stdout.strip()):
        raise SystemExit(f"The digest of {image} cannot be had: {' '.join((asked.stderr or asked.stdout).split())}")
    return asked.stdout.strip()


if __name__ == "__main__":
    main()
