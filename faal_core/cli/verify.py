"""faal verify: check a pack of a report and its evidence."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faal_core.cli import input_options
from faal_core.cli.evidence_options import file_option

if TYPE_CHECKING:
    from faal_core.classifier import Classifier
    from faal_core.evidence.contents import Contents
    from faal_core.evidence.result import Check, VerificationResult

REFUSED = 3
_AGAIN = "Predict again"
_KEYS = "Keys"


def verify(
    pack: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The file that `faal pack` wrote.")],
    key: Annotated[
        Path | None,
        file_option(
            "The public key that must have signed the pack; get it from the signer by another way than the pack.",
            metavar="KEY.pub.pem",
            panel=_KEYS,
        ),
    ] = None,
    policy_key: Annotated[
        Path | None,
        file_option("The public key that must have signed the policy.", metavar="KEY.pub.pem", panel=_KEYS),
    ] = None,
    weights: Annotated[
        Path | None,
        file_option(
            "The weights that were audited: predict every adversarial image of the pack again, on the CPU.",
            panel=_AGAIN,
        ),
    ] = None,
    weights_key: input_options.WeightsKey = None,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.py:NAME",
            help="The code that builds the network, which is executed, where the catalog does not have it.",
            rich_help_panel=_AGAIN,
        ),
    ] = None,
    adversarial: Annotated[
        Path | None,
        file_option("The .npy file of the adversarial images, where the pack does not have them.", panel=_AGAIN),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH",
            help="The data set that was audited: also check the choice of the images, their labels and the perturbations.",
            rich_help_panel=_AGAIN,
        ),
    ] = None,
    data_root: input_options.DataRoot = input_options.DATA_ROOT,
    class_order: input_options.ClassOrder = None,
    resize: input_options.Resize = None,
    crop: input_options.Crop = None,
    cache: input_options.Cache = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check signature, digests, Merkle roots and statistics of a pack. Exits with status 3 if a check fails."""
    from faal_core.evidence import read_public_key, verify_pack

    if weights is None and network is None and (adversarial or dataset):
        raise typer.BadParameter("--adversarial and --dataset need --weights FILE, or --network FILE.py:NAME")

    def repredict(contents: "Contents") -> "Check":
        from faal_core.auditing.reprediction import check_predictions
        from faal_core.cli.image_options import image_loader

        data = None
        if dataset is not None:
            load = image_loader(
                dataset, data_root, download=False, class_order=class_order, resize=resize, crop=crop, cache=cache
            )
            data = load(contents.audited.dataset.part)
        classifier = _read_classifier(contents, weights, weights_key, network)
        return check_predictions(contents, classifier, adversarial=adversarial, data=data)

    result = verify_pack(
        pack,
        public_key=read_public_key(key) if key else None,
        policy_key=read_public_key(policy_key) if policy_key else None,
        repredict=repredict if weights is not None or network is not None else None,
    )
    typer.echo(result.model_dump_json(indent=2) if as_json else _write_text(pack, result))
    if not result.verified:
        raise typer.Exit(REFUSED)


def _read_classifier(
    contents: "Contents", weights: Path | None, weights_key: str | None, network: str | None
) -> "Classifier":
    """Return the classifier that the report describes. Raises: FaalError; typer.BadParameter where own code fails."""
    from pydantic import ValidationError

    from faal_core.classifier import Classifier
    from faal_core.cli.classifier_input import build_network
    from faal_core.cli.specs import refuse
    from faal_core.specs import ClassifierSpec
    from faal_core.weights import read_classifier

    try:
        spec = ClassifierSpec.model_validate(contents.audited.classifier.spec.model_dump())
    except ValidationError as error:
        raise refuse(error) from None
    if spec.needs_own_code and network is None:
        raise typer.BadParameter(
            f"the report names code of its owner, {spec.architecture}: pass --network FILE.py:NAME"
        )
    module = build_network(network, spec) if network else None
    if weights is not None:
        return read_classifier(weights, spec, weights_key, network=module)
    assert module is not None, "there are weights or a network"  # noqa: S101
    return Classifier(module, spec).eval()


def _write_text(pack: Path, result: "VerificationResult") -> str:
    """Return the checks as lines of text, the conclusion last."""
    from faal_core.reports.wording import sanitise

    lines = []
    for check in result.checks:
        lines.append(f"{check.status:<12} {check.name:<12} {sanitise(check.sentence)}")
        lines += [f"{'':<25} {sanitise(detail)}" for detail in check.details]
    if result.signer is not None:
        lines.append(f"Signed by {sanitise(result.signer)}, as stated by the signer.")
    signature = (
        "the given key signed it" if result.trusted else "no trusted key was given" if result.key_id else "not signed"
    )
    policy = "no policy was evaluated"
    if gate_status := result.gate_status or result.stated_gate_status:
        policy = f"the result of the policy is {gate_status}"
        if result.gate_status is None:
            policy += ", as stated by the maker of the pack"
    pdf = ""
    if result.pdf_checked is False:
        is_page_checked = any(check.name == "page" and check.status == "passed" for check in result.checks)
        pdf = f"; its PDF was not checked: rely on {'evidence.html' if is_page_checked else 'report.json'}"
    lines.append(f"{pack}: verified, {signature}; {policy}{pdf}" if result.verified else f"{pack}: REFUSED")
    return "\n".join(lines)
