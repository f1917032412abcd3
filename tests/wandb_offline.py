"""Use Weights & Biases without a network and outside the user's folders."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import wandb

FOLDERS = ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_ARTIFACT_DIR")


@contextmanager
def wandb_offline(folder: Path) -> Iterator[None]:
    """Set the package's mode and folders in the environment, and let it read them again: it reads them once in a process."""
    wandb.teardown()
    with pytest.MonkeyPatch.context() as patch:
        for name in FOLDERS:
            patch.setenv(name, str(folder))
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        patch.setenv("WANDB_SILENT", "true")
        yield
        wandb.teardown()
