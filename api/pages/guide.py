"""The guide: the documentation as `make docs` builds it, served as files, without the Internet."""

from pathlib import Path

import anyio
from fastapi import HTTPException
from fastapi.staticfiles import StaticFiles

FOLDER = Path("build/guide")  # in the working folder of the service: a checkout, or the folder of the container image


class Guide(StaticFiles):
    """Serves the files of the guide. A missing folder is reported per request, because `make docs` may run later."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER.absolute(), html=True, check_dir=False)

    async def check_config(self) -> None:
        """Check that the folder exists. Raises: HTTPException."""
        if not await anyio.Path(str(self.directory)).is_dir():
            raise HTTPException(404, "The guide is not built here. Run `make docs` in the folder of the service.")
        await super().check_config()
