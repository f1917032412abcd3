"""Test weights that fit: round trips, key names, stored normalisation, and messages about mismatches."""

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from faal_core.classifier import Classifier
from faal_core.errors import WeightsMismatch, WeightsUnreadable
from faal_core.networks import build
from faal_core.specs import ClassifierSpec
from faal_core.weights import convert_checkpoint, digest, read_classifier, write_classifier
from faal_core.weights.key_names import arrange, fill
from faal_core.weights.weight_sets import WeightSet

SPEC = ClassifierSpec(
    architecture="small_resnet",
    num_classes=3,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2471, 0.2435, 0.2616),
    arguments={"width": 8},
    class_names=("cat", "dog", "ship"),
)


@pytest.fixture
def classifier() -> Classifier:
    """Return a small network whose batch-norm statistics differ from a new one's."""
    torch.manual_seed(1)
    network = build(SPEC)
    for buffer in network.backbone.buffers():
        buffer.copy_(torch.rand(buffer.shape) + 0.5 if buffer.is_floating_point() else torch.tensor(7))
    return network


@pytest.fixture
def save_checkpoint(classifier: Classifier, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that saves the classifier's state dict with torch.save, with each key and the whole changed as given."""

    def save(
        prefix: str = "", wrap: Callable[[dict[str, Tensor]], object] = lambda tensors: tensors, **more: Tensor
    ) -> Path:
        tensors = {prefix + name: tensor for name, tensor in classifier.backbone.state_dict().items()}
        torch.save(wrap(tensors | more), tmp_path / "upload.pt")
        return tmp_path / "upload.pt"

    return save


def test_a_written_classifier_is_read(classifier: Classifier, tmp_path: Path) -> None:
    """A classifier that is written and read without a spec is the same network with the same spec, in eval mode."""
    x = torch.rand(4, 3, 16, 16)
    logits = classifier(x)
    write_classifier(tmp_path / "w", classifier.to(memory_format=torch.channels_last))
    read = read_classifier(tmp_path / "w")
    assert torch.equal(read(x), logits)
    assert read.spec == SPEC
    assert not read.training
    assert digest(read) == digest(classifier)


def test_digest_is_of_names_and_values_alone(classifier: Classifier, save_checkpoint: Callable[..., Path]) -> None:
    """The digest ignores the memory format and the file, and changes with one value or one name."""
    before = digest(classifier)
    assert digest(read_classifier(save_checkpoint("module."), SPEC)) == before
    classifier.backbone.to(memory_format=torch.channels_last)
    assert digest(classifier) == before
    classifier.backbone.get_parameter("linear.bias").data[0] += 1e-3
    assert digest(classifier) != before
    layer = nn.Linear(1, 1)
    assert digest(Classifier(nn.ModuleDict({"a": layer}), SPEC)) != digest(
        Classifier(nn.ModuleDict({"b": layer}), SPEC)
    )


def test_the_same_classifier_gives_the_same_file(classifier: Classifier, tmp_path: Path) -> None:
    """Files of the same classifier are equal byte by byte, so that storage by content keeps one of them."""
    for i in range(8):
        write_classifier(tmp_path / str(i), classifier)
    assert len({(tmp_path / str(i)).read_bytes() for i in range(8)}) == 1


def test_a_failed_write_leaves_the_old_file(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If writing fails, the file keeps its content and no other file remains in the folder."""
    write_classifier(tmp_path / "w", classifier)
    before = (tmp_path / "w").read_bytes()
    layer = nn.Linear(2, 2)

    def run_out_of_space(_file: int) -> None:
        raise OSError("no space left on the device")

    monkeypatch.setattr("os.fsync", run_out_of_space)
    with pytest.raises(OSError, match="no space"):
        write_classifier(tmp_path / "w", Classifier(nn.Sequential(layer, layer), SPEC))
    assert (tmp_path / "w").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "w"]


@pytest.mark.parametrize(("mean", "std"), [("0.mean", "0.std"), ("mu", "sigma"), ("normalize.mean", "normalize.std")])
def test_normalisation_among_the_weights_must_agree(
    mean: str, std: str, save_checkpoint: Callable[..., Path], classifier: Classifier
) -> None:
    """Buffers of the same mean and std are dropped, of any shape; for other values the error states both."""
    same = {mean: torch.tensor(SPEC.mean).view(1, 3, 1, 1), std: torch.tensor(SPEC.std)}
    assert digest(read_classifier(save_checkpoint("1.", **same), SPEC)) == digest(classifier)
    other = same | {std: torch.tensor([0.2023, 0.1994, 0.2010])}
    with pytest.raises(
        WeightsMismatch, match=r"std \(0\.2023, 0\.1994, 0\.201\) in .* says std \(0\.2471, 0\.2435, 0\.2616\)"
    ):
        read_classifier(save_checkpoint("1.", **other), SPEC)


def test_batch_counters_may_be_missing(save_checkpoint: Callable[..., Path]) -> None:
    """A file of torch before 0.4.1, without num_batches_tracked, fits; the counters are zero."""
    path = save_checkpoint(
        wrap=lambda tensors: {name: t for name, t in tensors.items() if not name.endswith("num_batches_tracked")}
    )
    assert read_classifier(path, SPEC).backbone.state_dict()["bn.num_batches_tracked"] == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("save", [torch.save, safetensors.torch.save_file])
def test_floats_of_any_width_become_float32(
    dtype: torch.dtype, save: Callable[..., None], classifier: Classifier, tmp_path: Path
) -> None:
    """Weights of another width are read as float32 of the same values; counters stay whole numbers."""
    tensors = {
        name: t.to(dtype) if t.is_floating_point() else t for name, t in classifier.backbone.state_dict().items()
    }
    save(tensors, tmp_path / "w")
    read = read_classifier(tmp_path / "w", SPEC).backbone.state_dict()
    assert torch.equal(read["stem.weight"], tensors["stem.weight"].float())
    assert read["bn.num_batches_tracked"] == 7


def test_misfits_are_named_and_counted(save_checkpoint: Callable[..., Path]) -> None:
    """The message names the architecture, the first keys of each kind with their number, and differing shapes."""
    rename = {f"extra{i}.weight": torch.zeros(1) for i in range(7)}
    path = save_checkpoint(wrap=lambda tensors: {n: t for n, t in tensors.items() if n != "stem.weight"} | rename)
    with pytest.raises(WeightsMismatch) as error:
        read_classifier(path, SPEC)
    assert "small_resnet" in error.value.message
    assert "1 keys are missing: stem.weight." in error.value.message
    assert "7 keys are unexpected: extra0.weight, extra1.weight" in error.value.message
    assert "2 more" in error.value.message
    with pytest.raises(WeightsMismatch, match=r"38 keys are of another shape or type: bn\.bias \(32,\) for \(36,\)"):
        read_classifier(save_checkpoint(), SPEC.model_copy(update={"arguments": {"width": 9}}))


def test_the_error_for_a_wrong_number_of_classes_states_both(save_checkpoint: Callable[..., Path]) -> None:
    """For weights of three classes and a spec of ten, the error states both numbers."""
    spec = SPEC.model_copy(update={"num_classes": 10, "class_names": None})
    with pytest.raises(WeightsMismatch, match="They have 3 classes; the spec says 10"):
        read_classifier(save_checkpoint(), spec)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_values_that_are_no_numbers_are_refused(value: float, save_checkpoint: Callable[..., Path]) -> None:
    """NaN, infinity and values that overflow float32 are refused with the key."""
    bias = torch.tensor([0.0, value, 0.0], dtype=torch.float64)
    with pytest.raises(WeightsUnreadable, match=r"linear\.bias"):
        read_classifier(save_checkpoint(**{"linear.bias": bias}), SPEC)


def test_a_file_for_another_network_is_refused(classifier: Classifier, tmp_path: Path) -> None:
    """A file with a stored spec is not read as another network, nor with another normalisation."""
    write_classifier(tmp_path / "w", classifier)
    with pytest.raises(WeightsMismatch, match=r"mean \(0\.4914.*mean \(0\.0, 0\.0, 0\.0\)"):
        read_classifier(tmp_path / "w", SPEC.model_copy(update={"mean": (0.0, 0.0, 0.0)}))
    named_spec = SPEC.model_copy(update={"class_names": ("a", "b", "c")})
    assert read_classifier(tmp_path / "w", named_spec).spec == named_spec


def test_a_bare_file_needs_a_spec(save_checkpoint: Callable[..., Path]) -> None:
    """A file without a stored spec is refused if no spec is given."""
    with pytest.raises(WeightsUnreadable, match="Name the architecture"):
        read_classifier(save_checkpoint())


def test_conversion_writes_our_key_names(
    save_checkpoint: Callable[..., Path], classifier: Classifier, tmp_path: Path
) -> None:
    """An upload under any name becomes a safetensors file with plain key names that needs no spec to be read."""
    upload = save_checkpoint("module.", lambda tensors: {"net": tensors}).rename(tmp_path / "upload.safetensors")
    convert_checkpoint(upload, tmp_path / "converted", SPEC)
    assert safetensors.torch.load_file(tmp_path / "converted").keys() == classifier.backbone.state_dict().keys()
    assert digest(read_classifier(tmp_path / "converted")) == digest(classifier)


def test_a_trades_checkpoint_fits_wrn_34_10() -> None:
    """Weights of full size with TRADES' names, including its unused stage, fit Wide ResNet 34-10."""
    spec = ClassifierSpec(architecture="wrn_34_10", num_classes=10, mean=(0.0,) * 3, std=(1.0,) * 3)
    classifier = build(spec)
    values = {f"module.{name}": torch.full_like(t, 2) for name, t in classifier.backbone.state_dict().items()}
    extra_stage = {f"module.sub_{name[7:]}": t for name, t in values.items() if name.startswith("module.block1")}
    weights = WeightSet("", "module.", values | extra_stage)
    fill(classifier, arrange(weights, classifier.backbone, spec))
    assert all(bool((t == 2).all()) for t in classifier.backbone.state_dict().values())


def test_weights_that_cannot_be_written_are_an_error_of_the_system(tmp_path: Path) -> None:
    """A failure to write the file raises OSError, for any cause."""
    classifier = build(ClassifierSpec(architecture="small_resnet", num_classes=3))
    with pytest.raises(OSError, match="cannot be written"):
        write_classifier(tmp_path / "absent" / "w.safetensors", classifier)


def test_whole_numbers_that_are_no_counters_are_never_rounded() -> None:
    """A fraction for a whole number that affects logits is refused by name and value."""
    backbone = nn.Linear(2, 3)
    backbone.register_buffer("window", torch.tensor(7))
    classifier = Classifier(backbone, ClassifierSpec(architecture="small_resnet", num_classes=3))
    fill(classifier, {"window": torch.tensor(6.0)})
    assert backbone.window == 6
    with pytest.raises(WeightsUnreadable, match=r"window holds 6\.5; the network needs a whole number there"):
        fill(classifier, {"window": torch.tensor(6.5)})
