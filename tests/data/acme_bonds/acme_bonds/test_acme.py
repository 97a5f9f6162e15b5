"""Acme's suite: ``pytest --pyargs acme_bonds --target=acme --acme-pod=7 --lag-driver=acme``."""

from __future__ import annotations

from channover.testing import (
    Bonds,
    Counted,
    Lab,
    Lag,
    Observing,
    Source,
    Topology,
    at_least,
    at_most,
    behaviour,
    near,
    node,
    on,
    step,
)

CHAIN = Topology.of(
    "chain",
    node("beta", "abcd", role="relay"),
    node("gamma", "ab", role="server"),
    node("alpha", "ab", role="client"),
    cables="alpha.a-beta.a alpha.b-beta.b beta.c-gamma.a beta.d-gamma.b",
)


class Camera(Source):
    """Frames that somebody's camera has counted, second by second."""

    fixed = False

    def __init__(self) -> None:
        self.frames: list[float] = []

    def samples(self) -> list[float]:
        """Return them so far."""
        return self.frames

    def calm(self) -> list[float]:
        """Return all: nothing disturbs a camera."""
        return self.frames

    def more(self) -> bool:
        """Count on."""
        self.frames.append(30.0 + len(self.frames) % 2)
        return len(self.frames) < 500

    def extend(self) -> bool:
        """Count no longer than that."""
        return False

    def finish(self) -> None:
        """Stop."""

    def disturbed(self, settled: bool) -> str:
        """Nothing is."""
        return ""


def answers(lag: Lag) -> int:
    """Return how many pings one end answers the other."""
    one, other = lag.ends
    return one.host.run("ping", "-c", "1", "-W", "5", str(other.address.ip)).stdout.count("bytes from")


@behaviour("ACME-1")
def test_the_desk_has_four_legs(counted: Counted) -> None:
    assert counted("legs", 4) == 4


@behaviour("ACME-2")
def test_the_desk_flies(counted: Counted) -> None:
    assert counted("wings", 2) == 2


@behaviour("ACME-3")
def test_a_bond_has_an_address(lag: Lag, counted: Counted) -> None:
    assert counted("answers", answers(lag)) == 1


@behaviour("ACME-3")
@on(CHAIN)
def test_two_bonds_meet_in_one_host(lab: Lab, bond: Bonds, counted: Counted) -> None:
    assert (lab.left.name, lab.right.name) == ("alpha", "gamma")
    (relay,) = lab.having("relay")
    assert relay is lab["beta"]
    with step("bond alpha with beta, and beta with gamma"):
        near_by, far = bond(lab["alpha"], relay, policy="layer2"), bond(relay, lab["gamma"])
    assert counted("links of both", near_by.links + far.links) == 4
    assert counted("answers", answers(near_by) + answers(far)) == 2


def test_a_camera_counts_frames(observe: Observing) -> None:
    assert observe("frames", Camera(), "frames/s") == near(30.5, 0.05)


def test_a_host_is_cool(lab: Lab, observe: Observing) -> None:
    def waiting() -> float:
        return float(lab.left.read("/proc/loadavg").split()[0])

    assert observe("load", waiting, "processes", every=0.02) == at_least(0)
    assert observe("temperature", 41.5, "°C") == at_most(70)
