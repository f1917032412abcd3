"""List the data sets that have a name, each with its source, its builder and what is known before it is loaded."""

from faal_core.catalog.entries import Augmentation, DatasetEntry


def _torchvision_dataset(
    name: str,
    title: str,
    source: str,
    num_classes: int,
    shape: tuple[int, int, int],
    images: tuple[int, int],
    augmentation: Augmentation,
) -> DatasetEntry:
    builder = f"faal_core.datasets.torchvision_sets:{name.replace('-', '_')}"
    return DatasetEntry(name, title, source, builder, num_classes, shape, images, augmentation)


_FASHION_SOURCE = "Xiao, Rasul and Vollgraf 2017, MIT"
NAMED_DATASETS = [
    DatasetEntry(
        "fashion-mnist-subset",
        "Fashion-MNIST, 6,000 training and 3,000 test images, bundled",
        _FASHION_SOURCE,
        "faal_core.datasets.bundled:load",
        10,
        (1, 28, 28),
        (6_000, 3_000),
        "none",
    ),
    _torchvision_dataset("cifar10", "CIFAR-10", "Krizhevsky 2009", 10, (3, 32, 32), (50_000, 10_000), "crop-flip"),
    _torchvision_dataset("cifar100", "CIFAR-100", "Krizhevsky 2009", 100, (3, 32, 32), (50_000, 10_000), "crop-flip"),
    _torchvision_dataset("mnist", "MNIST", "LeCun et al. 1998", 10, (1, 28, 28), (60_000, 10_000), "crop"),
    _torchvision_dataset("fashion-mnist", "Fashion-MNIST", _FASHION_SOURCE, 10, (1, 28, 28), (60_000, 10_000), "none"),
    _torchvision_dataset(
        "svhn", "Street View House Numbers, cropped", "Netzer et al. 2011", 10, (3, 32, 32), (73_257, 26_032), "crop"
    ),
    _torchvision_dataset(
        "gtsrb",
        "German Traffic Signs, scaled to 32 × 32",
        "Stallkamp et al. 2012",
        43,
        (3, 32, 32),
        (26_640, 12_630),
        "crop",
    ),
    _torchvision_dataset("stl10", "STL-10", "Coates, Ng and Lee 2011", 10, (3, 96, 96), (5_000, 8_000), "crop-flip"),
]
