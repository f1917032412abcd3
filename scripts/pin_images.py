"""Write the digests of all external images into Dockerfile and docker-compose.yml: `python:3.12-slim@sha256:…`.

`make pin-images` runs this; repeat it after security updates of a base image. Docker's buildx asks the registries. One digest
holds for all platforms.
"""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = ("Dockerfile", "docker-compose.yml")
IMAGE = re.compile(r"^((?:FROM|\s+image:) )([a-z0-9./_-]+:[\w.-]+)(?:@sha256:[0-9a-f]{64})?", re.MULTILINE)


def main() -> None:
    """Write both files. Raises: SystemExit, before anything is written, where a digest is not available."""
    texts = {name: pin_images((ROOT / name).read_text("utf-8"), fetch_digest) for name in FILES}
    for name, text in texts.items():
        (ROOT / name).write_text(text, "utf-8")
        print(f"wrote {name}")


def pin_images(text: str, fetch: Callable[[str], str]) -> str:
    """Return the text with a digest behind each image that has a tag; our own images and stages have no tag."""
    return IMAGE.sub(lambda match: f"{match[1]}{match[2]}@{fetch(match[2])}", text)


def fetch_digest(image: str) -> str:
    """Return the registry's current digest of the image. Raises: SystemExit where it is not available."""
    command = ["docker", "buildx", "imagetools", "inspect", image, "--format", "{{.Manifest.Digest}}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise SystemExit(f"The digest of {image} needs Docker, which failed to start: {error}") from None
    if answer.returncode or not re.fullmatch("sha256:[0-9a-f]{64}", answer.stdout.strip()):
        raise SystemExit(f"The digest of {image} was not found: {' '.join((answer.stderr or answer.stdout).split())}")
    return answer.stdout.strip()


if __name__ == "__main__":
    main()
