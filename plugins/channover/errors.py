"""The ways a run can end that are nobody's verdict on a behaviour."""

from __future__ import annotations


class ChannoverError(Exception):
    """Anything that channover raises on purpose. The text is one line: what is wrong, where, and the remedy."""


class TestbedError(ChannoverError):
    """The testbed broke: a process died, a wait ran out, a change was refused. Never a failed behaviour.

    ``kind`` is the id of what was found, as results name it (docs/causes.md); empty where there is none.
    """

    __test__ = False  # pytest would take a class whose name begins so for one of tests

    def __init__(self, words: str = "", kind: str = "") -> None:
        super().__init__(words)
        self.kind = kind


RigError = TestbedError
"""The former name, for suites that catch it; it goes with the next release."""


class UsageError(ChannoverError):
    """The user asked for something that cannot be: an unknown name, an impossible value, a missing tool."""


class NotAllowed(UsageError):
    """The owner of a lab's hosts does not allow what a test needs: such a test is skipped, with the reason."""


class Inconclusive(ChannoverError):
    """The time was up, and the interval of a value still holds the bound: neither as expected nor not."""


class BehaviourFailed(AssertionError):
    """The behaviour under test did not show: a failure of what is tested, not of the testbed."""
