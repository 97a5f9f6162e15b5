"""A tunnel over MPTCP feeds on itself once its own addresses count as paths, unless a guard keeps it out (article, stage 3)."""

from __future__ import annotations

import pytest

from channover.testing import (
    Counted,
    Form,
    LoopLab,
    LoopLabs,
    Means,
    Multipath,
    Vector,
    at_least,
    at_most,
    behaviour,
    in_force,
    variant,
)

LOAD = 1.5
"""Links' worth of datagrams that a loop lab's load offers."""
TRIES = 3
"""How often a loop may have to be closed until its rate collapses: a kernel may leave the looped subflows idle."""


def carries_more_than_one_link(loop: LoopLab, multipath: Multipath) -> None:
    """Show that the load passes one link where nothing feeds on itself."""
    assert loop.signs().all == 0
    with loop.load():
        rate = loop.rate("rate before the loop")
        assert rate == at_least(
            1.3 * multipath.link.rate, "two paths carry the load", theory=LOAD * multipath.link.rate
        )


def has_collapsed(loop: LoopLab, multipath: Multipath) -> None:
    """Show that it is the loop that stops the load, and nothing that has ended."""
    assert loop.tries == at_most(TRIES, "the loop takes hold")
    looped = loop.rate("rate inside the loop")
    assert looped == at_most(0.5 * multipath.link.rate, "the carrier waits for what it carries")
    assert loop.programs == 2


@behaviour("TUN-3")
def test_a_tunnel_that_feeds_on_itself_is_detected_and_named(multipath: Multipath, loop_lab: LoopLabs) -> None:
    with loop_lab() as loop:
        carries_more_than_one_link(loop, multipath)
        with loop.collapse(0.5 * multipath.link.rate):
            has_collapsed(loop, multipath)
            signs = loop.signs()
            for form in (Form.SOURCE, Form.DESTINATION, Form.ENDPOINT):
                assert signs.of(form) == at_least(1, "the loop shows so")


@behaviour("TUN-3")
def test_a_loop_that_is_still_pending_is_named_too(loop_lab: LoopLabs) -> None:
    with loop_lab(joins=False) as loop, loop.load():
        assert loop.signs().all == 0
        with loop.add_subflow_endpoint(bound=True):
            signs = loop.wait_for(Form.PENDING)
            for form in (Form.PENDING, Form.ENDPOINT):
                assert signs.of(form) == at_least(1, "the loop shows so")
            assert signs.carrying == 0


@behaviour("TUN-3")
@pytest.mark.parametrize(
    "vector", [one for one in Vector if one is not Vector.BACKUP], ids=lambda one: one.name.lower()
)
def test_each_way_into_the_loop_shows_in_its_form(loop_lab: LoopLabs, vector: Vector) -> None:
    with loop_lab() as loop:
        assert loop.signs().all == 0
        with loop.closed_by(vector):
            for form in vector.shows:
                assert loop.wait_for(form).of(form) == at_least(1, "the loop shows so")


@behaviour("TUN-4")
def test_the_guard_for_both_directions_ends_a_loop(multipath: Multipath, loop_lab: LoopLabs) -> None:
    with loop_lab() as loop:
        carries_more_than_one_link(loop, multipath)
        with loop.collapse(0.5 * multipath.link.rate):
            has_collapsed(loop, multipath)
            with loop.guarded_at_both_ends() as guard:
                for refused in guard.refused:
                    assert refused == at_least(1, "the guard of that end meets the carrier")
                waited = guard.time_to_recover(1.3 * multipath.link.rate)
                assert waited == at_most(guard.longest_timer, "timers that the loop wound up run out")
                recovered = loop.rate("rate behind the guard")
                assert recovered == at_least(1.3 * multipath.link.rate, "the rate comes back")
                assert loop.wait_clear().carrying == 0


@behaviour("TUN-4")
def test_the_articles_guard_keeps_the_source_side_out(multipath: Multipath, loop_lab: LoopLabs) -> None:
    with loop_lab() as loop:
        carries_more_than_one_link(loop, multipath)
        with loop.collapse(0.5 * multipath.link.rate):
            has_collapsed(loop, multipath)
    # It does not end a subflow that is there (the article loads it first), so the tunnel is brought up anew.
    with loop_lab() as loop, loop.guarded_at_the_source() as guard, loop.invite_loop():
        loop.wait_for(Form.DESTINATION)
        (refused,) = guard.refused
        assert refused == at_least(1, "the guard meets the carrier")
        guarded = loop.rate("rate behind the guard")
        assert guarded == at_least(1.3 * multipath.link.rate, "the rate comes back")
        # As in the article, what is left are the subflows *towards* the far end's tunnel address.
        left = loop.signs(loop.tunnel.client)
        assert left.of(Form.SOURCE) == 0
        assert left.of(Form.DESTINATION) == at_least(1, "the far end's address is still a path")


@behaviour("TUN-4")
def test_a_loop_ends_without_its_endpoints_and_a_guard_of_the_device_keeps_it_out(loop_lab: LoopLabs) -> None:
    with loop_lab() as loop:
        with loop.routed_into_tunnel():
            assert loop.within() == at_least(1, "the loop is closed with its endpoints")
        left = loop.wait_clear()
        assert left.carrying == 0
        assert loop.within() == 0
        with loop.guarded_by_the_device() as guard, loop.offered():
            (refused,) = guard.refused
            assert refused == at_least(1, "the guard meets the carrier")
            assert loop.within() == 0


@behaviour("TUN-4")
def test_a_device_in_a_namespace_of_its_own_is_no_path(loop_lab: LoopLabs, counted: Counted) -> None:
    with loop_lab() as loop:
        with loop.closed_by(Vector.OWN_ADDRESS):
            assert loop.wait_for(Form.SOURCE).of(Form.SOURCE) == at_least(1, "it is one without")
        loop.wait_clear()
        with loop.apart() as apart, loop.closed_by(Vector.OWN_ADDRESS):
            assert counted("echo requests answered through the tunnel", apart.answered()) == 3
            signs = loop.signs(loop.tunnel.client)
            assert signs.carrying == 0
            assert signs.of(Form.PENDING) == 0


@behaviour("TUN-4")
@variant
def test_the_tunnel_as_a_backup_path_is_latent(multipath: Multipath, loop_lab: LoopLabs) -> None:
    with loop_lab() as loop, loop.closed_by(Vector.BACKUP):
        assert loop.wait_for(Form.SOURCE).of(Form.SOURCE) == at_least(1, "the subflow is there")
        with loop.load():
            rate = loop.rate("rate beside the latent loop")
            assert rate == at_least(
                1.3 * multipath.link.rate, "the other paths carry the load", theory=LOAD * multipath.link.rate
            )


@behaviour("TUN-4")
@variant
def test_a_limit_of_one_subflow_a_path_keeps_out_the_tunnel_only_if_it_comes_last(loop_lab: LoopLabs) -> None:
    with loop_lab() as loop, loop.no_more_subflows_than_paths():
        with loop.closed_by(Vector.OWN_ADDRESS):
            signs = loop.wait_for(Form.SOURCE, 2.0)
            assert signs.carrying == 0
            assert signs.of(Form.ENDPOINT) == 1
            assert loop.subflows_from("b") == 1
        with loop.before("b"):
            assert loop.wait_for(Form.SOURCE).of(Form.SOURCE) == at_least(1, "it takes the place of a path")
            assert loop.subflows_from("b") == 0


@behaviour("TUN-4")
@variant
@pytest.mark.parametrize("means", Means, ids=lambda one: one.name.lower())
def test_a_means_closes_the_ways_that_it_knows_and_no_other(loop_lab: LoopLabs, means: Means) -> None:
    with loop_lab(means=means) as loop:
        for vector in Vector:
            with loop.closed_by(vector):
                if vector in means.closes:
                    loop.use_every_path()
                    signs = loop.wait_clear(tried=True)
                    assert signs.carrying == 0
                    assert signs.of(Form.PENDING) == 0
                else:
                    for form in vector.shows:
                        assert loop.wait_for(form).of(form) == at_least(1, "it does not keep this way out")
            assert loop.wait_clear().carrying == 0  # what offers the tunnel is gone, and the loop with it
        assert in_force(loop, means) == at_least(1, "a means that was not taken looks like one that does nothing")
