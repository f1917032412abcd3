"""Networks of a caller in Python: unusual ones, ones that are used meanwhile, and what is left of them after an audit."""

import copy
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import faal_core as faal
from faal_core.errors import ClassifierUnsuitable, FaalError, InvalidSpec, LedgerMismatch
from faal_core.progress import NoProgress

SHAPE = (3, 6, 6)
IMAGES = torch.rand(36, *SHAPE, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(36) % 3


def build_network(seed: int = 0) -> nn.Module:
    """Return a network of one layer."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(108, 3))


def audit(network: nn.Module, **options: Any) -> Any:
    """Audit the network on random images, without progress."""
    classifier = network if isinstance(network, faal.Classifier) else faal.Classifier.wrap(network, num_classes=3)
    return faal.audit(classifier, IMAGES, LABELS, **{"epsilon": 0.02, "attacks": "quick", "progress": False} | options)


def finetune(network: nn.Module, **options: Any) -> faal.FinetuneResult:
    """Fine-tune the network by a few steps, without progress."""
    data = (IMAGES, LABELS)
    training = {"learning_rates": [0.002], "batch_size": 12, "attack": {"steps": 1}}
    fields = {"epsilon": 0.01, "method": "uniform", "training": training, "attacks": "quick", "progress": False}
    return faal.finetune(faal.Classifier.wrap(network, num_classes=3), data, data, **fields | options)


class Applies(nn.Module):
    """Applies a function to a network of one layer and the images."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(108, 3), function
        with torch.no_grad():
            self.layer.weight.copy_(build_network()[1].weight)
            self.layer.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Return what the function returns."""
        return self.function(self.layer, x)


def test_a_ledger_resumes_the_same_network_alone(tmp_path: Path) -> None:
    """Own code with the same weights and another function does not resume; the same function resumes, as its report says."""
    path = tmp_path / "ledger"
    first = audit(Applies(lambda layer, x: layer(x.flatten(1))), ledger=path)
    again = audit(Applies(lambda layer, x: layer(x.flatten(1))).eval(), ledger=path)
    assert again.report.attacks == first.report.attacks  # also the seconds: nothing was computed again
    assert (first.report.resumed, again.report.resumed) == (False, True)
    with pytest.raises(LedgerMismatch, match="another network"):
        audit(Applies(lambda layer, x: layer(x.flatten(1) - 0.5)), ledger=path)


def test_two_threads_take_turns_with_one_network() -> None:
    """Rates of audits in two threads equal those of one after the other, and weights and modes stay as they were."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3)).train()
    attacks, state = ("quick", "pgd-20"), copy.deepcopy(network.state_dict())
    alone = [audit(network, attacks=attack).evaluation.robust for attack in attacks]
    results: dict[int, Any] = {}
    threads = [
        Thread(target=lambda number=number: results.update({number: audit(network, attacks=attacks[number])}))
        for number in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(results[number].evaluation.robust, alone[number]) for number in range(2))
    assert all(module.training for module in network)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_gradients_are_computed_where_the_caller_needs_none() -> None:
    """Within torch.no_grad an audit breaks as many images as outside; inference mode is refused by name."""
    reference = audit(build_network())
    with torch.no_grad():
        assert np.array_equal(audit(build_network()).evaluation.robust, reference.evaluation.robust)
        finetune(build_network())
    with torch.inference_mode(), pytest.raises(InvalidSpec, match=r"outside of torch\.inference_mode"):
        audit(build_network())
    with torch.inference_mode():
        network = build_network()
    with pytest.raises(ClassifierUnsuitable, match=r"were made in torch\.inference_mode"):
        audit(network)


def test_a_network_that_views_its_input_is_audited_and_fine_tuned() -> None:
    """A network that needs the default memory layout gets it, and has the outcomes of one that does not."""
    views, flattens = (
        Applies(function)
        for function in (lambda layer, x: layer(x.view(len(x), -1)), lambda layer, x: layer(x.flatten(1)))
    )
    assert np.array_equal(audit(views).evaluation.robust, audit(flattens).evaluation.robust)
    finetune(views)
    layers = (nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(64, 3))
    convolutions = Applies(lambda _, x: layers[2](layers[1](layers[0](x)).view(len(x), -1)))
    convolutions.layers = nn.ModuleList(layers)
    assert audit(convolutions).report.dataset.images == len(IMAGES)


def test_a_network_keeps_its_memory_layout() -> None:
    """The weights' tensors are the same before and after, in layout and in place; so are gradients."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 3))
    network(IMAGES).sum().backward()
    before = [
        (weight.data_ptr(), weight.stride(), weight.grad.clone(), weight.grad.stride())
        for weight in network.parameters()
    ]
    audit(network, **({"device": "cuda"} if torch.cuda.is_available() else {}))
    finetune(network)
    assert {weight.device.type for weight in network.parameters()} == {"cpu"}
    for weight, (place, stride, gradient, gradient_stride) in zip(network.parameters(), before, strict=True):
        assert (weight.data_ptr(), weight.stride()) == (place, stride)
        assert torch.equal(weight.grad, gradient)
        assert weight.grad.stride() == gradient_stride


def test_a_file_of_adversarial_images_belongs_to_one_audit(tmp_path: Path) -> None:
    """An existing file is neither truncated nor overwritten, and a ledger resumes with the file that it vouches for alone."""
    path, ledger = tmp_path / "x.npy", tmp_path / "ledger"
    audit(build_network(), keep_adversarial=path, epsilon=0.1)
    content = path.read_bytes()
    with pytest.raises(InvalidSpec, match=r"x\.npy exists"):
        audit(build_network(), keep_adversarial=path)
    audit(build_network(), keep_adversarial=tmp_path / "y.npy", ledger=ledger)
    with pytest.raises(InvalidSpec, match="another audit wrote it"):
        audit(build_network(), keep_adversarial=path, ledger=ledger)
    assert path.read_bytes() == content


class TwoArguments(nn.Module):
    """Needs more than images."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return nothing of use."""
        return x + y


class ExtraState(nn.Linear):
    """Keeps a mapping in its state."""

    def get_extra_state(self) -> dict[str, int]:
        """Return the mapping."""
        return {"steps": 1}


def in_place(layer: nn.Module, x: Tensor) -> Tensor:
    """Change the input."""
    return layer(x.sub_(0.5).flatten(1))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda: torch.jit.script(build_network()), "ScriptModule"),
        (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), "without a shape"),
        (lambda: nn.Sequential(nn.Flatten(), ExtraState(108, 3)), "1._extra_state, a dict"),
        (TwoArguments, "images alone.*missing 1 required"),
    ],
)
def test_a_network_that_cannot_be_audited_is_refused(network: Callable[[], nn.Module], message: str) -> None:
    """Each has one sentence that names what is unusual."""
    with pytest.raises(ClassifierUnsuitable, match=message):
        audit(network())


def test_an_operation_in_place_changes_no_image() -> None:
    """A network that changes its input has the outcomes of one that computes the same from a copy."""
    copies = Applies(lambda layer, x: layer((x - 0.5).flatten(1)))
    assert np.array_equal(audit(Applies(in_place)).evaluation.robust, audit(copies).evaluation.robust)


def test_a_network_without_trainable_weights_is_not_fine_tuned() -> None:
    """The message says how to make the weights trainable."""
    with pytest.raises(ClassifierUnsuitable, match="requires_grad_"):
        finetune(build_network().requires_grad_(False))


def test_a_single_value_applies_to_all_channels() -> None:
    """A mean per channel goes with a single std, and with the default one."""
    spec = faal.Classifier.wrap(build_network(), num_classes=3, mean=[0.5, 0.4, 0.3], std=0.5).spec
    assert spec.std == (0.5, 0.5, 0.5)
    assert faal.Classifier.wrap(build_network(), num_classes=3, mean=[0.5, 0.4, 0.3]).spec.std == (1.0, 1.0, 1.0)


def test_a_call_that_fails_leaves_the_channels_open() -> None:
    """After images of one channel were refused, images of three are audited."""
    classifier = faal.Classifier.wrap(build_network(), num_classes=3)
    with pytest.raises(FaalError):
        faal.audit(classifier, IMAGES[:, :1], LABELS, epsilon=0.02, attacks="quick", progress=False)
    assert audit(classifier).report.classifier.spec.channels == 3


def test_a_stopped_radius_is_marked_and_not_charted() -> None:
    """The frame says which radii are complete; the chart has none that are not, and a class may be named mean."""
    series = audit(build_network(), epsilon=[0.01, 0.02], minutes=0)
    assert not any(series.to_frame()["complete"])
    whole = audit(build_network(), epsilon=[0.01, 0.02], class_names=["mean", "b", "c"])
    assert all(whole.to_frame()["complete"])
    assert _chart_rows(series) == []
    assert len(_chart_rows(whole)) == 8
    assert [row["line"] for row in _chart_rows(whole)].count("mean") == 2


def _chart_rows(series: faal.RadiusSeries) -> Any:
    """Return the data of the series' chart."""
    chart = series.plot().to_dict()
    return chart["datasets"][chart["data"]["name"]]


@pytest.mark.parametrize("epsilon", [np.float32(0.02), torch.tensor(0.02), np.array(0.02)])
def test_a_radius_may_be_a_number_of_any_kind(epsilon: Any) -> None:
    """Scalars of NumPy and PyTorch are one radius; an array of several is a series."""
    assert audit(build_network(), epsilon=epsilon).report.spec.threat.epsilon == pytest.approx(0.02)
    assert len(audit(build_network(), epsilon=torch.tensor([0.01, 0.02])).results) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": None}, "epsilon"),
        ({"epsilon": object()}, "epsilon"),
        ({"minutes": "5"}, "minutes: '5'"),
        ({"minutes": float("nan")}, "minutes: nan"),
        ({"minutes": 1, "progress": NoProgress()}, "Leave one of the two out"),
        ({"device": "gpu"}, "device: 'gpu' is no device here; write auto, cpu"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], message: str) -> None:
    """Each raises InvalidSpec with the argument's name."""
    with pytest.raises(InvalidSpec, match=message):
        audit(build_network(), **options)


def test_only_results_of_one_radius_are_compared() -> None:
    """A series is refused by name."""
    series = audit(build_network(), epsilon=[0.01, 0.02])
    with pytest.raises(InvalidSpec, match="A RadiusSeries is not the result"):
        faal.compare(series, series)


def test_one_image_is_audited() -> None:
    """An audit of a single image ends with a report."""
    classifier = faal.Classifier.wrap(build_network(), num_classes=3)
    result = faal.audit(
        classifier, IMAGES[:1], LABELS[:1], epsilon=0.02, attacks="quick", device="auto", progress=False
    )
    assert result.report.dataset.images == 1


def test_tied_weights_are_written_and_read(tmp_path: Path) -> None:
    """Layers that share a tensor have equal weights in the file; without the network the message names the argument."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(108, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3))
    network[3].weight = network[2].weight
    path = tmp_path / "tied.safetensors"
    faal.write_classifier(path, faal.Classifier.wrap(network, num_classes=3))
    copied = copy.deepcopy(network)
    assert torch.equal(faal.read_classifier(path, network=copied)(IMAGES), network(IMAGES))
    with pytest.raises(InvalidSpec, match="network=network"):
        faal.read_classifier(path)
