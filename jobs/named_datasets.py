"""Which data sets of the catalog this site has the files of.

The web service looks for the files' names in its own folder, or uses the site's own list; workers read and check the files.
"""

from faal_core.catalog import dataset_files
from faal_core.errors import DatasetMissing
from jobs.settings import Settings


def is_available(settings: Settings, dataset: str) -> bool:
    """Return whether jobs can use that data set.

    Uploaded, bundled and installed ones are always available, others if their files are there.
    """
    if dataset in dataset_files.FILES and settings.listed_datasets is not None:
        return dataset in settings.listed_datasets
    return not dataset_files.list_missing(dataset, settings.dataset_root)


def require_available(settings: Settings, dataset: str) -> None:
    """Check that jobs can use a data set. Raises: DatasetMissing."""
    if not is_available(settings, dataset):
        files = ", ".join(dataset_files.FILES[dataset])
        raise DatasetMissing(
            f"This service has no files of the data set {dataset!r}. Upload it as your own, or choose one that `GET /catalog` "
            f"lists as available. The administrator can put torchvision's files ({files}) into the folder FAAL_DATASET_ROOT."
        )
