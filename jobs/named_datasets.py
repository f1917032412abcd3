"""Which data sets of the catalog this site has the files of.

The web service tells by their names alone, in the folder that it sees or by the site's own list; workers read and check them.
"""

from faal_core.catalog import dataset_files
from faal_core.errors import DatasetMissing
from jobs.settings import Settings


def available(settings: Settings, dataset: str) -> bool:
    """Return whether jobs can use that data set: uploaded, bundled and installed ones always, others where their files are."""
    if dataset in dataset_files.FILES and settings.listed_datasets is not None:
        return dataset in settings.listed_datasets
    return not dataset_files.missing(dataset, settings.dataset_root)


def require_available(settings: Settings, dataset: str) -> None:
    """Check that jobs can use a data set. Raises: DatasetMissing."""
    if not available(settings, dataset):
        files = ", ".join(dataset_files.FILES[dataset])
        raise DatasetMissing(
            f"This service has no files of {dataset}. Upload it as a data set of your own, or choose one that GET /catalog calls "
            f"available. An administrator can put torchvision's files ({files}) into the folder FAAL_DATASET_ROOT."
        )
