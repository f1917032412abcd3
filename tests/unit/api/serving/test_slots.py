"""Places for long requests are shared among owners."""

from contextlib import ExitStack

import pytest

from api.problems.errors import ServiceBusy
from api.serving.slots import Slots


def places_of(slots: Slots, owner: str, stack: ExitStack) -> int:
    """Return the number of places that the owner gets until one is refused."""
    count = 0
    while True:
        try:
            stack.enter_context(slots.for_owner(owner))
        except ServiceBusy:
            return count
        count += 1


def test_each_owner_gets_as_many_places_as_are_free() -> None:
    """Of 50 places the first owner gets 25, and each next one half of the rest."""
    slots = Slots(50, "event streams")
    with ExitStack() as stack:
        shares = [places_of(slots, owner, stack) for owner in ("ann", "bob", "cem", "dan", "eve", "fay", "gil")]
    assert shares == [25, 13, 6, 3, 2, 1, 0]


def test_a_place_comes_back() -> None:
    """An owner who has all allowed places gets one again after one was given back."""
    slots = Slots(4, "uploads")
    with ExitStack() as stack:
        assert places_of(slots, "ann", stack) == 2
    with ExitStack() as stack:
        assert places_of(slots, "ann", stack) == 2
        with pytest.raises(ServiceBusy, match="2 uploads"), slots.for_owner("ann"):
            pass


def test_the_remedy_is_named() -> None:
    """The error says what the owner can do: a place for writing a pack cannot be closed."""
    slots = Slots(2, "packs that are being written", "Try again in a few seconds.")
    with slots.for_owner("ann"), pytest.raises(ServiceBusy) as busy, slots.for_owner("ann"):
        pass
    assert busy.value.message == (
        "You have 1 packs that are being written, and may start no more at the moment. Try again in a few seconds."
    )
