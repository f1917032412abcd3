"""The threads that share the attack of a batch."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from faal_core.classifier import Classifier
from faal_core.networks import build
from faal_core.specs import ClassifierSpec, FinetuneSpec
from faal_core.training.attack_threads import AttackThreads
from faal_core.training.inner_maximum import perturb, start_attack
from tests.float64_classifier import convert_to_float64
from tests.linear_classifier import build_linear_classifier


@pytest.fixture(autouse=True)
def _four_torch_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def small_network() -> Classifier:
    """Return an untrained network of this project, in eval mode."""
    torch.manual_seed(0)
    return build(ClassifierSpec(architecture="small_resnet", num_classes=3)).eval()


@pytest.mark.parametrize("loss", ["cross-entropy", "kl"])
def test_threads_find_the_images_of_one_thread(loss: str) -> None:
    """Adversarial images and their order do not depend on the number of threads."""
    classifier = convert_to_float64(small_network())
    spec = FinetuneSpec.model_validate({"threat": {"epsilon": 0.1}, "training": {"attack": {"steps": 3, "loss": loss}}})
    x, y = torch.rand(33, 1, 8, 8, dtype=torch.float64), torch.arange(33) % 3
    batch = start_attack(x, y, torch.linspace(0.5, 1, 33), spec, torch.Generator().manual_seed(1))
    assert AttackThreads.for_batch(classifier, 33) == AttackThreads(4, 1)
    by_threads = perturb(classifier, batch, spec, 33)
    assert torch.get_num_threads() == 4
    torch.set_num_threads(1)
    assert torch.allclose(by_threads, perturb(classifier, batch, spec, 33), atol=1e-12)


@pytest.mark.parametrize(("images", "threads"), [(7, (1, 4)), (16, (2, 2)), (31, (3, 1)), (200, (4, 1))])
def test_each_thread_gets_eight_images_at_least(images: int, threads: tuple[int, int]) -> None:
    """With fewer images fewer threads share the batch, and each uses several cores."""
    assert AttackThreads.for_batch(small_network(), images) == AttackThreads(*threads)


@pytest.mark.parametrize(
    ("images", "largest", "pieces"), [(128, 125, 4), (128, 24, 8), (3, 24, 3), (1, 1, 1), (0, 5, 1)]
)
def test_pieces_keep_all_threads_busy(images: int, largest: int, pieces: int) -> None:
    """The number of pieces is a multiple of that of the threads where there are enough images."""
    assert AttackThreads(4, 1).count_pieces(images, largest) == pieces


def test_a_network_that_may_store_values_gets_one_thread() -> None:
    """Modules of other packages and hooks may store values in a pass, and some draw: images pass one after another."""
    hooked = small_network()
    hook = hooked.backbone.stem.register_forward_hook(lambda *_: None)
    assert AttackThreads.for_batch(hooked, 64).count == 1
    hook.remove()
    hooked.backbone.stem.register_full_backward_hook(lambda *_: None)
    assert AttackThreads.for_batch(hooked, 64).count == 1
    drawing = nn.Sequential(nn.FractionalMaxPool2d(2, output_size=2), nn.Flatten(), nn.Linear(4, 2))
    assert AttackThreads.for_batch(Classifier.wrap(drawing, num_classes=2), 64).count == 1
    assert AttackThreads.for_batch(build_linear_classifier(2, (1, 4, 4)), 64).count == 1
    wrapped = Classifier.wrap(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), num_classes=2)
    assert AttackThreads.for_batch(wrapped, 64).count == 4


def test_an_error_of_a_thread_is_raised_after_all_have_ended() -> None:
    """The first error in the order of the items is raised, and other items are not cut off."""
    finished = list[int]()

    def work(item: int) -> int:
        if item in (1, 2):
            raise MemoryError(item)
        finished.append(item)
        return item

    with pytest.raises(MemoryError, match="1"):
        AttackThreads(4, 1).map(work, range(6))
    assert sorted(finished) == [0, 3, 4, 5]
    assert torch.get_num_threads() == 4


def test_threads_compute_in_the_autocast_of_their_caller() -> None:
    """A product has the number format that the caller's context sets; every thread has one torch thread."""
    a = torch.ones(2, 2)

    def work(_item: int) -> tuple[torch.dtype, int]:
        return (a @ a).dtype, torch.get_num_threads()

    threads = AttackThreads(2, 1)
    assert set(threads.map(work, range(4))) == {(torch.float32, 1)}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert set(threads.map(work, range(4))) == {(torch.bfloat16, 1)}
