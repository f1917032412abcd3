"""Write docs/openapi.json, the description of the HTTP API, from the code; a test compares the two."""

import json
import tempfile
from pathlib import Path

from api.app import create_app
from jobs.settings import Settings

TARGET = Path(__file__).resolve().parents[1] / "docs/openapi.json"


def describe_api() -> str:
    """Return the document as text."""
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Settings(data_dir=Path(folder)))
        return json.dumps(app.openapi(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(describe_api(), "utf-8")
    print(f"wrote {TARGET}")
