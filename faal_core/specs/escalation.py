"""Choose the attacks that follow an audit's own where warnings say that its gradients cannot be trusted."""

from collections.abc import Collection, Sequence

from pydantic import Field

from faal_core.specs.attacks import ApgdSpec, AttackSpec, SourceNetwork, SquareSpec, TransferSpec
from faal_core.specs.spec import Spec

RANDOM = "random-output"
SATURATED = "saturated-logits"
FAILED = "nan-gradient"
MISLEADING = frozenset(
    {
        "zero-gradient",
        "unbounded-attack-fails",
        "larger-radius-breaks-fewer",
        "more-steps-break-fewer",
        "square-beats-gradients",
    }
)
"""Codes of warnings that gradients lead to no adversarial images where there may be some."""

DRAWS = 128
"""Draws of a network with random outputs whose mean logits predict an image: their noise is an eleventh of one draw's."""

_NEAR = 0.5  # of the clean margin: the costly attacks try only images that cheaper ones brought this near
_BY_MARGIN = ApgdSpec(loss="margin")
_BY_TARGET = ApgdSpec(loss="dlr", targets=9, margin_left=_NEAR)
_BY_SEARCH = (SquareSpec(queries=1000), SquareSpec(restarts=2, margin_left=_NEAR))


class EscalationStep(Spec):
    """Names an attack that followed the audit's own, and the warnings that led to it."""

    attack: AttackSpec = Field(
        description="The attack; its counts are in the report's `attacks`, after those of the spec."
    )
    warnings: tuple[str, ...] = Field(
        min_length=1,
        description="Codes of the warnings that led to the attack; in a fine-tuning, those of either audit.",
    )


class Escalation(Spec):
    """Lists what an audit did after warnings that gradients cannot be trusted."""

    draws: int = Field(
        1,
        ge=1,
        description="Number of random draws, with fixed seeds, whose mean logits predict each image, clean and after attacks. "
        "It is 1 unless the network's outputs are random.",
    )
    steps: tuple[EscalationStep, ...] = Field(
        (), description="Attacks that followed those of the spec, in order, on the images that were still robust."
    )

    @property
    def attacks(self) -> tuple[AttackSpec, ...]:
        """Return the attacks of the steps."""
        return tuple(step.attack for step in self.steps)


def list_transfer_attacks(source: SourceNetwork) -> tuple[TransferSpec, ...]:
    """Return the attacks by the gradients of another network: away from the label, then to each of nine targets."""
    return TransferSpec(source=source), TransferSpec(source=source, targets=9, iterations=30)


def plan_escalation(
    codes: Collection[str], attacks: Sequence[AttackSpec], sources: Collection[SourceNetwork] = ()
) -> Escalation | None:
    """Return what follows the attacks of a spec after warnings with these codes; None where no warning calls for it.

    Attacks that the spec has are not repeated.

    Args:
        sources: networks whose gradients attacks may follow.
    """
    misleading = tuple(sorted(MISLEADING & set(codes)))
    by_gradient = (*misleading, *sorted({RANDOM, SATURATED} & set(codes)))
    by_search = (*misleading, *sorted({FAILED} & set(codes)))
    by_any = (*by_gradient, *sorted({FAILED} & set(codes)))
    gradient = "surrogate" if misleading else "exact"
    chosen: list[tuple[AttackSpec, tuple[str, ...]]] = [
        *((one.model_copy(update={"gradient": gradient}), by_gradient) for one in (_BY_MARGIN, _BY_TARGET)),
        *((one, by_any) for source in sources for one in list_transfer_attacks(source)),
        *((one, by_search) for one in _BY_SEARCH),
    ]
    steps = tuple(
        EscalationStep(attack=attack, warnings=reasons)
        for attack, reasons in chosen
        if reasons and attack not in attacks
    )
    draws = DRAWS if RANDOM in codes else 1
    return Escalation(draws=draws, steps=steps) if steps or draws > 1 else None
