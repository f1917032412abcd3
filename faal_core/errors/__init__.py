"""What can go wrong in the library, each with a stable code and a message that says what to do.

FaalError
├── InvalidSpec            invalid-spec            what was asked for contradicts itself or its model or data
├── UnknownName            unknown-name            no architecture, data set or preset has that name
├── WeightsUnreadable      weights-unreadable      the file is not weights, is damaged, or could run code
├── WeightsAmbiguous       weights-ambiguous       the file holds several sets of weights
├── WeightsMismatch        weights-mismatch        the weights do not fit the architecture
├── ClassifierUnsuitable   classifier-unsuitable   the network's outputs cannot be audited
├── DatasetMissing         dataset-missing         its files are not there
├── DatasetInvalid         dataset-invalid         its files are there and break a rule
├── TrainingDiverged       training-diverged       the loss became NaN or infinite
├── LedgerMismatch         ledger-mismatch         the file holds the verdicts of another audit
├── OutOfTime              out-of-time             the time given is too short for any result
└── OutOfMemory            out-of-memory           the device had no room for a batch, or the machine for a file
"""

from typing import ClassVar

_LONGEST_NAME = 100  # characters of an unknown name that are compared with the known ones and repeated in the message


class FaalError(Exception):
    """An error a user can act on; `code` is stable, the message says what was wrong and what to do.

    Args:
        remedy: the name of an option that helps, for whoever knows how its readers write it (`faal_core.cli.remedies`).
    """

    code: ClassVar[str]

    def __init__(self, *message: str, remedy: str | None = None) -> None:
        super().__init__(*message)
        self.remedy = remedy

    @property
    def message(self) -> str:
        """The sentence for a person."""
        return str(self.args[0]) if self.args else self.code


class InvalidSpec(FaalError):
    """What was asked for contradicts itself, the model or the data."""

    code = "invalid-spec"


class UnknownName(FaalError):
    """No architecture, data set or preset has that name."""

    code = "unknown-name"

    @classmethod
    def among(cls, what: str, name: str, known: list[str]) -> "UnknownName":
        """The error for `name`, listing the nearest known names."""
        import difflib

        # Without case and signs, and without the library in front: "ResNet-18" is near "torchvision/resnet18".
        forms = {one: (_letters(one), _letters(one.rpartition("/")[2])) for one in known}
        close = difflib.get_close_matches(
            _letters(name[:_LONGEST_NAME]), {form for pair in forms.values() for form in pair}, cutoff=0.5
        )
        near = list(dict.fromkeys(one for form in close for one in known if form in forms[one]))[:3]
        meant = f"did you mean {', '.join(near)}? " if near else ""
        return cls(
            f"There is no {what} named {name[:_LONGEST_NAME]!r}; {meant}`faal catalog` and GET /catalog list all."
        )


def _letters(name: str) -> str:
    return "".join(sign for sign in name.casefold() if sign.isalnum() or sign == "/")


class WeightsUnreadable(FaalError):
    """The file is not weights, is damaged, or is of a kind that could run code."""

    code = "weights-unreadable"


class WeightsAmbiguous(FaalError):
    """The file holds several sets of weights, or none at the key that was named: the message lists their keys."""

    code = "weights-ambiguous"


class WeightsMismatch(FaalError):
    """The weights do not fit the architecture: the message names keys and shapes."""

    code = "weights-mismatch"


class ClassifierUnsuitable(FaalError):
    """The network's outputs cannot be audited: wrong width, not finite, or not repeatable."""

    code = "classifier-unsuitable"


class DatasetMissing(FaalError):
    """The data set's files are not where they were looked for."""

    code = "dataset-missing"


class DatasetInvalid(FaalError):
    """The data set's files are there and break a rule."""

    code = "dataset-invalid"


class TrainingDiverged(FaalError):
    """The loss became NaN or infinite; no weights are kept."""

    code = "training-diverged"


class LedgerMismatch(FaalError):
    """The file holds the verdicts of another audit, or something else altogether."""

    code = "ledger-mismatch"


class OutOfTime(FaalError):
    """The time that was given is too short for any result."""

    code = "out-of-time"


class OutOfMemory(FaalError):
    """The device had no room for a batch, or the machine for a file."""

    code = "out-of-memory"
