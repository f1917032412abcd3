"""Checkpoints as other training code writes them: wrappers, prefixes, averages beside the weights, bookkeeping."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from faal_core.classifier import Classifier
from faal_core.errors import WeightsAmbiguous, WeightsMismatch, WeightsUnreadable
from faal_core.networks import build
from faal_core.specs import ClassifierSpec
from faal_core.weights import digest, read_classifier

SPEC = ClassifierSpec(architecture="small_resnet", num_classes=3, arguments={"width": 8})
PREFIXES = (
    *("", "module.", "model.", "basic_model.", "backbone.", "module.model."),
    *("_orig_mod.", "module._orig_mod.", "model.net.module."),
)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    """Return a small network with random weights."""
    torch.manual_seed(1)
    return build(SPEC)


@pytest.fixture
def state(classifier: Classifier) -> dict[str, Tensor]:
    """Return the classifier's state dict."""
    return dict(classifier.backbone.state_dict())


def read_digest(folder: Path, content: object, key: str | None = None, spec: ClassifierSpec = SPEC) -> str:
    """Write a checkpoint with that content, read it, and return the digest of the classifier."""
    torch.save(content, folder / "upload.pt")
    return digest(read_classifier(folder / "upload.pt", spec, key))


def add_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the same tensors with a prefix before each name."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def make_zeros(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return zeros under the same names."""
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    "wrappers",
    [(), ("state_dict",), ("model_state_dict",), ("net",), ("weights",), ("params_ema",), ("checkpoint", "model")],
)
def test_prefixes_and_wrappers_fall_away(
    prefix: str, wrappers: tuple[str, ...], state: dict[str, Tensor], classifier: Classifier, tmp_path: Path
) -> None:
    """The only set of weights is found under any prefix and in any mappings, beside other entries."""
    content: dict[str, Any] = add_prefix(prefix, state)
    for wrapper in wrappers:
        content = {
            "epoch": 3,
            wrapper: content,
            "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}},
            "args": {"lr": 0.1},
        }
    assert read_digest(tmp_path, content) == digest(classifier)


def test_wrappers_inside_names_fall_away(state: dict[str, Tensor], classifier: Classifier, tmp_path: Path) -> None:
    """The name parts of torch.compile, FSDP and checkpointing are dropped."""
    for part in ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"):
        tensors = {name.replace("stage2.0.", f"stage2.{part}.0."): tensor for name, tensor in state.items()}
        assert tensors != state
        assert read_digest(tmp_path, {"state_dict": add_prefix("model.", tensors)}) == digest(classifier)


def test_a_lightning_checkpoint_is_read(state: dict[str, Tensor], classifier: Classifier, tmp_path: Path) -> None:
    """The network of a LightningModule is found beside its loss, its loops and its hyper-parameters."""
    content = {
        "epoch": 9,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": add_prefix("net.", state) | {"criterion.weight": torch.ones(3)},
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 10}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'loss'}": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(8)}}, "param_groups": [{"lr": 0.1}]}],
        "hyper_parameters": {"width": 8, "mean": [0.5]},
    }
    assert read_digest(tmp_path, content) == digest(classifier)


@pytest.mark.parametrize(
    ("plain", "average"),
    [
        ("state_dict", "state_dict_ema"),
        ("model", "model_ema"),
        ("model", "ema"),
        ("model", "ema_state_dict"),
        ("params", "params_ema"),
        ("student", "teacher"),
        ("state_dict", "best_state_dict"),
        ("net", "state_dict"),
        ("last", "anything"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_one_of_two_mappings_is_never_taken_silently(
    plain: str, average: str, prefix: str, state: dict[str, Tensor], classifier: Classifier, tmp_path: Path
) -> None:
    """For two sets in two mappings, the error lists the keys and the option, and the key that is given is read."""
    content = {plain: make_zeros(state), average: add_prefix(prefix, state), "epoch": 3}
    with pytest.raises(WeightsAmbiguous, match=f"holds 2 sets .*{plain}.*weights_key") as error:
        read_digest(tmp_path, content)
    keys = error.value.message.partition("network: ")[2].partition(". Select")[0].split(", ")
    assert keys == [plain, (average + "." + prefix).strip(".")]
    assert (
        read_digest(tmp_path, content, average) == read_digest(tmp_path, content, f" {keys[1]}. ") == digest(classifier)
    )
    assert read_digest(tmp_path, content, plain) != digest(classifier)


@pytest.mark.parametrize(("one", "other"), [("model.", "ema_model."), ("student.", "teacher."), ("", "ema.module.")])
@pytest.mark.parametrize("wrapper", [None, "state_dict"])
def test_one_of_two_prefixes_is_never_taken_silently(
    one: str, other: str, wrapper: str | None, state: dict[str, Tensor], classifier: Classifier, tmp_path: Path
) -> None:
    """For two sets in one mapping, the error lists the keys, and the key that is given is read."""
    tensors = add_prefix(one, make_zeros(state)) | add_prefix(other, state)
    start = "" if wrapper is None else f"{wrapper}."
    content = tensors if wrapper is None else {wrapper: tensors}
    with pytest.raises(WeightsAmbiguous, match="weights-key") as error:
        read_digest(tmp_path, content)
    for key in (f"{start}{one}", f"{start}{other}"):
        assert (key.strip(".") or " .") in error.value.message
    assert (
        read_digest(tmp_path, content, f"{start}{other}") == read_digest(tmp_path, content, other) == digest(classifier)
    )
    assert (
        read_digest(tmp_path, content, f"{start}{one}")
        == read_digest(tmp_path, make_zeros(state))
        != digest(classifier)
    )


def test_sets_in_safetensors_are_listed_too(state: dict[str, Tensor], classifier: Classifier, tmp_path: Path) -> None:
    """Two prefixes in a safetensors file give the same error and the same choice."""
    safetensors.torch.save_file(
        add_prefix("model.", make_zeros(state)) | add_prefix("model_ema.", state), tmp_path / "w"
    )
    with pytest.raises(WeightsAmbiguous, match=r"model, model_ema|model_ema, model"):
        read_classifier(tmp_path / "w", SPEC)
    assert digest(read_classifier(tmp_path / "w", SPEC, "model_ema")) == digest(classifier)


def test_an_average_of_parameters_alone_is_listed(
    state: dict[str, Tensor], classifier: Classifier, tmp_path: Path
) -> None:
    """An average without batch-norm's statistics is a set, too; selecting it raises an error that lists what is missing."""
    shadow = {name: tensor * 0 for name, tensor in classifier.backbone.named_parameters()}
    content = {"model": state, "ema": {"decay": 0.999, "shadow": shadow}}
    with pytest.raises(WeightsAmbiguous, match=r"model, ema\.shadow"):
        read_digest(tmp_path, content)
    assert read_digest(tmp_path, content, "model") == digest(classifier)
    with pytest.raises(WeightsMismatch, match=r"keys are missing: bn\.running_mean"):
        read_digest(tmp_path, content, "ema")


@pytest.mark.parametrize("kind", [list, tuple])
def test_an_average_without_names_is_listed(
    kind: Callable[[object], object], state: dict[str, Tensor], classifier: Classifier, tmp_path: Path
) -> None:
    """An average that is a list in the order of `parameters()` is a set, too; other lists are not."""
    average = kind([parameter.detach() * 0 for parameter in classifier.backbone.parameters()])
    content = {"model": state, "ema": {"decay": 0.99, "shadow_params": average}, "rng": [torch.get_rng_state()]}
    with pytest.raises(WeightsAmbiguous, match=r"model, ema\.shadow_params"):
        read_digest(tmp_path, content)
    assert read_digest(tmp_path, content, "model") == digest(classifier)
    assert read_digest(tmp_path, {"model": state, "grads": kind([torch.ones(3)] * 9)}) == digest(classifier)


@pytest.mark.parametrize(
    "container",
    [
        pytest.param(lambda state: list(state.values()), id="list"),
        pytest.param(lambda state: tuple(state.items()), id="pairs"),
        pytest.param(lambda state: dict(enumerate(state.values())), id="whole numbers"),
        pytest.param(lambda state: {f"p{i}": tensor for i, tensor in enumerate(state.values())}, id="numbered names"),
        pytest.param(lambda state: {name.replace(".", ""): t for name, t in state.items()}, id="names without dots"),
        pytest.param(lambda state: [t for t in state.values() if t.is_floating_point()], id="floats"),
        pytest.param(lambda state: [0.999, state], id="in a list"),
        pytest.param(lambda state: {"a": {"b": {"c": {"d": {"e": {"f": state}}}}}}, id="deep"),
    ],
)
def test_an_average_kept_in_any_way_is_no_less_a_choice(
    container: Callable[[dict[str, Tensor]], object], state: dict[str, Tensor], classifier: Classifier, tmp_path: Path
) -> None:
    """An average of the whole state, with names or as a list, is listed beside the plain weights, and read by its key."""
    content = {"model": make_zeros(state), "ema": container(state)}
    with pytest.raises(WeightsAmbiguous, match=r"holds 2 sets .*: model, ema"):
        read_digest(tmp_path, content)
    assert read_digest(tmp_path, content, "ema") == digest(classifier)


@pytest.mark.parametrize("order", ["parameters first", "state"])
def test_buffers_are_found_in_either_order(
    order: str, state: dict[str, Tensor], classifier: Classifier, tmp_path: Path
) -> None:
    """The shapes of a list show whether parameters come before buffers or it has the order of the state dict."""
    backbone = classifier.backbone
    container = [*backbone.parameters(), *backbone.buffers()] if order == "parameters first" else list(state.values())
    content = {"model": make_zeros(state), "ema": {"shadow": [tensor.detach() for tensor in container]}}
    assert read_digest(tmp_path, content, "ema") == digest(classifier)


def test_tensors_too_deep_to_be_read_are_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    """Tensors below eight mappings are refused, because they may be an average; deep entries without tensors are not."""
    average: object = dict(state)
    settings: object = {"lr": 0.1}
    for _ in range(9):
        average, settings = {"a": average}, [settings]
    assert read_digest(tmp_path, {"model": state, "settings": settings}) == read_digest(tmp_path, state)
    with pytest.raises(WeightsUnreadable, match=r"holds tensors in a\.a\..* more than 8 mappings or lists deep"):
        read_digest(tmp_path, {"model": state, "a": average})


def test_an_optimisers_state_is_no_set(state: dict[str, Tensor], classifier: Classifier, tmp_path: Path) -> None:
    """The state of an optimiser, in a mapping and in a list of such, is ignored."""
    optimiser = torch.optim.SGD(copy.deepcopy(classifier.backbone).parameters(), 0.1, momentum=0.9)
    for parameter in optimiser.param_groups[0]["params"]:
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    content = {"model": state, "optimizer": optimiser.state_dict(), "optimizer_states": [optimiser.state_dict()]}
    assert read_digest(tmp_path, content) == digest(classifier)


def test_a_key_that_is_not_there_lists_those_that_are(state: dict[str, Tensor], tmp_path: Path) -> None:
    """The error for a wrong key lists the keys of the file."""
    with pytest.raises(WeightsAmbiguous, match=r"no sets .* at the key 'ema'; its sets are: state_dict\."):
        read_digest(tmp_path, {"state_dict": state}, "ema")


def test_a_teacher_of_another_network_is_no_choice(
    state: dict[str, Tensor], classifier: Classifier, tmp_path: Path
) -> None:
    """Weights that cannot be this network's, although names are equal, are ignored."""
    wide = build(SPEC.model_copy(update={"arguments": {"width": 16}})).backbone.state_dict()
    assert read_digest(tmp_path, {"teacher": dict(wide), "student": state}) == digest(classifier)


def test_an_averaged_model_of_torch_is_read(classifier: Classifier, tmp_path: Path) -> None:
    """The state dict of AveragedModel is read, although its counter has no prefix; so is one over data parallelism."""
    average = AveragedModel(copy.deepcopy(classifier.backbone))
    average.update_parameters(classifier.backbone)
    assert read_digest(tmp_path, average.state_dict()) == digest(classifier)
    assert read_digest(
        tmp_path, AveragedModel(nn.DataParallel(copy.deepcopy(classifier.backbone))).state_dict()
    ) == digest(classifier)


@pytest.mark.parametrize("prefix", ["", "model.", "module.net."])
@pytest.mark.parametrize(
    "name",
    ["loss.weight", "criterion.weight", "loss_fn.weight", "ce_loss.weight", "optimizer.exp_avg", "val_metrics.confmat",
     "lr_scheduler.last_lr"],
)  # fmt: skip
def test_modules_of_the_training_beside_the_network_are_left_out(
    name: str, prefix: str, state: dict[str, Tensor], classifier: Classifier, tmp_path: Path
) -> None:
    """A loss or an optimiser is left out beside the network, and refused below the network's prefix."""
    for before in {"", prefix.partition("net.")[0]} - {"model."}:
        assert read_digest(tmp_path, add_prefix(prefix, state) | {before + name: torch.ones(3)}) == digest(classifier)
    if prefix:
        with pytest.raises(WeightsMismatch, match=f"1 keys are unexpected: {name}"):
            read_digest(tmp_path, add_prefix(prefix, state | {name: torch.ones(3)}))


@pytest.mark.parametrize("prefix", ["", "model.", "module.net."])
@pytest.mark.parametrize("name", ["n_averaged", "stage1.total_ops", "num_updates", "epoch", "decay", "ema.step"])
def test_counters_of_the_training_are_left_out(
    name: str, prefix: str, state: dict[str, Tensor], classifier: Classifier, tmp_path: Path
) -> None:
    """Counters are left out anywhere, except names that a parameter inside the network may have."""
    is_inside = name.endswith(("decay", "step"))
    for before in {"", prefix, prefix.partition("net.")[0]} - ({prefix} if is_inside else set()):
        assert read_digest(tmp_path, add_prefix(prefix, state) | {before + name: torch.ones(())}) == digest(classifier)
    if is_inside:
        with pytest.raises(WeightsMismatch, match=f"1 keys are unexpected: {name}"):
            read_digest(tmp_path, add_prefix(prefix, state | {name: torch.ones(())}))


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize("module", ["scaler", "loss", "criterion.vgg", "normalize"])
def test_no_other_normalisation_is_passed_over(
    module: str, prefix: str, state: dict[str, Tensor], classifier: Classifier, tmp_path: Path
) -> None:
    """A mean or std that differs from the spec's is refused, in any module; an equal one is left out."""
    for before in {"", prefix}:
        content = add_prefix(prefix, state) | {f"{before}{module}.std": torch.tensor([1.0])}
        assert read_digest(tmp_path, content | {f"{before}{module}.mean": torch.tensor([0.0])}) == digest(classifier)
        with pytest.raises(WeightsMismatch, match=r"normalises with mean \(0\.1\)"):
            read_digest(tmp_path, content | {f"{before}{module}.mean": torch.tensor([0.1])})


@pytest.mark.parametrize(
    "module",
    [
        "scaler",
        "input_scaler",
        "scaler_x",
        "acc_head",
        "accuracy",
        "metric_fc",
        "metric",
        "objective",
        "loss_head",
        "optim_in",
    ],
)
@pytest.mark.parametrize(("prefix", "before"), [("model.", "model."), ("model.", ""), ("", "")])
def test_possible_names_of_layers_are_not_left_out(
    module: str, prefix: str, before: str, state: dict[str, Tensor], tmp_path: Path
) -> None:
    """Modules with names that a layer may have are refused by name, inside the network and beside it."""
    with pytest.raises(WeightsMismatch, match=rf"{module}\.weight"):
        read_digest(tmp_path, add_prefix(prefix, state) | {f"{before}{module}.weight": torch.ones(10, 10)})


@pytest.mark.parametrize("name", ["preprocess.weight", "0.weight", "head.bias", "stage4.weight"])
def test_possible_tensors_of_the_network_are_not_left_out(
    name: str, state: dict[str, Tensor], classifier: Classifier, tmp_path: Path
) -> None:
    """Other tensors beside a network are refused by name unless its weights are selected; inside it they always are."""
    content = add_prefix("model.", state) | {name: torch.ones(3)}
    with pytest.raises(
        WeightsMismatch, match=rf"under 'model', but 1 tensors are beside it: {name}.*--weights-key model"
    ):
        read_digest(tmp_path, content)
    assert read_digest(tmp_path, content, "model") == digest(classifier)
    with pytest.raises(WeightsMismatch, match=f"1 keys are unexpected: {name}"):
        read_digest(tmp_path, add_prefix("model.", state | {name: torch.ones(3)}), "model")


def test_a_tensor_both_with_and_without_the_prefix_is_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    """One name of the network without the prefix, beside all of them with it, is refused."""
    with pytest.raises(WeightsMismatch, match=r"under 'ema', but 1 tensors are beside it: stem\.weight"):
        read_digest(tmp_path, add_prefix("ema.", state) | {"stem.weight": state["stem.weight"]})


@pytest.mark.parametrize("kind", [torch.float16, torch.float32, torch.float64, torch.int32])
def test_counters_of_any_type_are_converted(
    kind: torch.dtype, state: dict[str, Tensor], classifier: Classifier, tmp_path: Path
) -> None:
    """Batch counters that an average turned into floats become whole numbers again."""
    tensors = {name: t.to(kind) if name.endswith("num_batches_tracked") else t for name, t in state.items()}
    assert read_digest(tmp_path, tensors) == digest(classifier)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_counters_of_one_value_fit(
    shape: tuple[int, ...], state: dict[str, Tensor], classifier: Classifier, tmp_path: Path
) -> None:
    """A counter that is stored as a list of one value is read."""
    tensors = {name: t.reshape(shape) if name.endswith("num_batches_tracked") else t for name, t in state.items()}
    assert read_digest(tmp_path, tensors) == digest(classifier)


@pytest.mark.parametrize("kind", ["int8", "complex64"])
def test_parameters_of_another_kind_of_number_are_refused(kind: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    """Whole or complex numbers for a parameter are refused with both types."""
    with pytest.raises(WeightsMismatch, match=rf"1 keys are of another shape or type: linear\.bias {kind} for float32"):
        read_digest(tmp_path, state | {"linear.bias": state["linear.bias"].to(getattr(torch, kind))})


def test_another_network_is_called_that(state: dict[str, Tensor], tmp_path: Path) -> None:
    """Weights of another network raise an error with missing and unexpected names, although some names of a block are equal."""
    resnet = ClassifierSpec(architecture="torchvision/resnet18", num_classes=3, mean=(0.0,) * 3, std=(1.0,) * 3)
    with pytest.raises(
        WeightsMismatch, match=r"fit torchvision/resnet18\. .* keys are missing: .* keys are unexpected"
    ):
        read_digest(tmp_path, state, spec=resnet)


def test_averaged_counters_are_rounded(state: dict[str, Tensor], tmp_path: Path) -> None:
    """Fractions in batch counters, as averages of state dicts have them, are rounded."""
    whole = read_digest(tmp_path, state | {"bn.num_batches_tracked": torch.tensor(3)})
    assert read_digest(tmp_path, state | {"bn.num_batches_tracked": torch.tensor(2.75)}) == whole


@pytest.mark.parametrize("count", [float("nan"), float("inf")])
def test_counters_that_are_not_finite_are_refused(count: float, state: dict[str, Tensor], tmp_path: Path) -> None:
    """A batch counter that is NaN or infinite is refused by name."""
    with pytest.raises(WeightsUnreadable, match=r"bn\.num_batches_tracked holds NaN"):
        read_digest(tmp_path, state | {"bn.num_batches_tracked": torch.tensor(count)})


@pytest.mark.parametrize(
    "name", ["net_1128_10:14:29.pth", "epoch=3 (best), ε=8.pt", "模型[1].pth", "a'b\"c&d;e.pt", "run #7 50%.bin"]
)
def test_any_name_of_a_checkpoint_will_do(
    name: str, state: dict[str, Tensor], classifier: Classifier, tmp_path: Path
) -> None:
    """The file's name, which torch.save gives the folder in the archive, does not matter."""
    torch.save(state, tmp_path / name)
    assert digest(read_classifier(tmp_path / name, SPEC)) == digest(classifier)
