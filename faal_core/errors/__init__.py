"""Define the library's errors, each with a stable code and a message that says what to do.

FaalError
├── InvalidSpec            invalid-spec            the request contradicts itself, the model or the data
├── GroupsMissing          groups-missing          the data has no column of groups of that name
├── UnknownName            unknown-name            no architecture, data set or preset has that name
├── WeightsUnreadable      weights-unreadable      the file holds no weights, is damaged, or could run code
├── WeightsAmbiguous       weights-ambiguous       the file holds several sets of weights
├── WeightsMismatch        weights-mismatch        the weights do not fit the architecture
├── ClassifierUnsuitable   classifier-unsuitable   the network's outputs cannot be audited
├── DatasetMissing         dataset-missing         the data set's files were not found
├── DatasetInvalid         dataset-invalid         the data set's files break a rule
├── TrainingDiverged       training-diverged       the loss became NaN or infinite
├── LedgerMismatch         ledger-mismatch         the ledger file belongs to another audit
├── OutOfTime              out-of-time             the given time is too short for any result
└── OutOfMemory            out-of-memory           the device lacks memory for a batch, or the machine for a file
"""

from typing import ClassVar

_LONGEST_NAME = 100  # characters of an unknown name; the rest is neither compared with known names nor repeated


class FaalError(Exception):
    """Reports an error that a user can act on: `code` is stable, the message says what happened and what to do.

    Args:
        remedy: name of an option that helps; each front end writes it in its own way (`faal_core.cli.remedies`).
    """

    code: ClassVar[str]

    def __init__(self, *message: str, remedy: str | None = None) -> None:
        super().__init__(*message)
        self.remedy = remedy

    @property
    def message(self) -> str:
        """Return the message for a person, or the code where there is none."""
        return str(self.args[0]) if self.args else self.code


class InvalidSpec(FaalError):
    """The request contradicts itself, the model or the data."""

    code = "invalid-spec"


class GroupsMissing(FaalError):
    """The training or test images have no column of groups of the name that the method asks for."""

    code = "groups-missing"


class UnknownName(FaalError):
    """No architecture, data set or preset has that name."""

    code = "unknown-name"

    @classmethod
    def suggest(cls, kind: str, name: str, known_names: list[str]) -> "UnknownName":
        """Return the error for `name`, with the nearest known names."""
        import difflib

        # Compare without case and signs, and without the library's prefix unless `name` has one: "ResNet-18" is close to
        # "torchvision/resnet18".
        forms = {one: _letters(one if "/" in name else one.rpartition("/")[2]) for one in known_names}
        close = difflib.get_close_matches(_letters(name[:_LONGEST_NAME]), set(forms.values()), cutoff=0.5)
        nearest = [one for form in close for one in known_names if forms[one] == form][:3]
        hint = f"did you mean {', '.join(nearest)}? " if nearest else ""
        return cls(
            f"There is no {kind} named {name[:_LONGEST_NAME]!r}; {hint}`faal catalog` and GET /catalog list all."
        )


def _letters(name: str) -> str:
    return "".join(sign for sign in name.casefold() if sign.isalnum() or sign == "/")


class WeightsUnreadable(FaalError):
    """The file holds no weights, is damaged, or is of a kind that could run code."""

    code = "weights-unreadable"


class WeightsAmbiguous(FaalError):
    """The file holds several sets of weights, or none at the named key; the message lists their keys."""

    code = "weights-ambiguous"


class WeightsMismatch(FaalError):
    """The weights do not fit the architecture; the message names keys and shapes."""

    code = "weights-mismatch"


class ClassifierUnsuitable(FaalError):
    """The network's outputs cannot be audited: wrong width, not finite, or not repeatable."""

    code = "classifier-unsuitable"


class DatasetMissing(FaalError):
    """The data set's files were not found."""

    code = "dataset-missing"


class DatasetInvalid(FaalError):
    """The data set's files were found and break a rule."""

    code = "dataset-invalid"


class TrainingDiverged(FaalError):
    """The loss became NaN or infinite; no weights are kept."""

    code = "training-diverged"


class LedgerMismatch(FaalError):
    """The ledger file belongs to another audit, or is no ledger."""

    code = "ledger-mismatch"


class OutOfTime(FaalError):
    """The given time is too short for any result."""

    code = "out-of-time"


class OutOfMemory(FaalError):
    """The device lacks memory for a batch, or the machine for a file."""

    code = "out-of-memory"
