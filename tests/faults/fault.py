"""What a row of the fault matrix is: what is done to a lab, when, and what the suites must make of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from tests.faults.bench import Bench

_FAILOVER = "suites/lacp/test_failover.py::test_a_lost_links_flows_move_over_and_the_link_is_used_again"
SUITES = {
    "LAG-1": "suites/lacp/test_lag.py::test_one_tcp_flow_rides_one_link",
    "LAG-2": "suites/lacp/test_lag.py::test_one_udp_flow_rides_one_link_however_much_is_offered",
    "LAG-3": "suites/lacp/test_lag.py::test_one_nic_carries_the_flow_and_the_other_only_lacp",
    "LAG-4": "suites/lacp/test_lag.py::test_lacp_has_converged",
    "LAG-5": "suites/lacp/test_lag.py::test_a_flow_keeps_its_rate_over_a_long_run",
    "LAG-6 HTTP": "suites/lacp/test_switches.py::test_one_file_copy_stays_within_one_link[HTTP]",
    "LAG-6 FTP": "suites/lacp/test_switches.py::test_one_file_copy_stays_within_one_link[FTP]",
    "LAG-6 SFTP": "suites/lacp/test_switches.py::test_one_file_copy_stays_within_one_link[SFTP]",
    "LAG-7": "suites/lacp/test_switches.py::test_many_hosts_fill_the_lag",
    "LAG-8": f"{_FAILOVER}[carrier]",
    "LAG-8 silent": f"{_FAILOVER}[silent]",
    "LAG-8 needed": "suites/lacp/test_failover.py::"
    "test_a_lag_is_down_without_a_link_that_it_needs_and_needs_one_unless_told_more",
    "LAG-8 one way": "suites/lacp/test_failover.py::test_a_link_that_loses_one_way_only_is_done_without_later_if_at_all",
    "LAG-9": "suites/lacp/test_hash.py::test_each_flow_takes_the_link_that_its_hash_says[layer3+4]",
    "LAG-9 layer2": "suites/lacp/test_hash.py::test_each_flow_takes_the_link_that_its_hash_says[layer2]",
    "LAG-10": "suites/lacp/test_partners.py::test_unlike_partners_form_a_lag[active-passive]",
    "LAG-10 passive": "suites/lacp/test_partners.py::test_two_passive_ends_form_no_lag",
    "LAG-10 apart": "suites/lacp/test_partners.py::test_links_that_do_not_belong_stay_out_and_are_named[system]",
    "LAG-10 rates": "suites/lacp/test_partners.py::"
    "test_a_slow_and_a_fast_end_form_a_lag_and_each_is_told_as_often_as_it_asks_for",
    "MP-1": "suites/mptcp/test_multipath.py::test_one_connection_passes_one_link_over_two_paths",
    "MP-1 three": "suites/mptcp/test_multipath.py::test_one_connection_nears_three_links_over_three_paths",
    "MP-2": "suites/mptcp/test_multipath.py::test_the_full_mesh_of_three_nics_is_nine_subflows",
    "MP-3": "suites/mptcp/test_multipath.py::test_the_application_is_unchanged_and_names_one_address",
    "MP-4": "suites/mptcp/test_multipath.py::test_with_multipath_off_on_every_nic_it_is_one_link",
    "MP-5": "suites/mptcp/test_paths.py::test_a_backup_path_carries_nothing_until_the_other_fails[carrier]",
    "MP-5 flag": "suites/mptcp/test_paths.py::test_a_backup_path_that_is_made_a_path_like_any_other_carries_at_once",
    "MP-5 removed": "suites/mptcp/test_paths.py::test_a_path_whose_address_is_removed_leaves_the_rest_to_the_backup",
    "MP-6": "suites/mptcp/test_multipath.py::test_without_source_rules_the_second_path_joins_and_stays_idle",
    "MP-7": "suites/mptcp/test_multipath.py::test_all_nics_are_full_at_once_on_both_hosts",
    "MP-9": "suites/mptcp/test_paths.py::test_a_path_lost_in_mid_transfer_is_done_without_and_used_again[carrier]",
    "MP-2 limit": "suites/mptcp/test_subflows.py::test_of_more_paths_than_the_limit_only_so_many_are_taken[left]",
    "MP-2 port": "suites/mptcp/test_subflows.py::test_a_path_leads_to_a_port_that_was_announced",
    "MP-7 checksums": "suites/mptcp/test_subflows.py::test_all_nics_are_full_at_once_with_checksums",
    "MP-8 first": "suites/mptcp/test_middlebox.py::test_a_middlebox_on_the_first_path_ends_in_a_fallback[SYN]",
    "MP-8 other, checksum": "suites/mptcp/test_middlebox.py::test_a_middlebox_on_one_of_two_paths_costs_that_path[checksum]",
    "MP-8 other": "suites/mptcp/test_middlebox.py::test_a_middlebox_on_one_of_two_paths_costs_that_path[SYN]",
    "MP-10": "suites/mptcp/test_unequal.py::test_paths_of_unlike_rates_give_their_sum_each_its_share[rates]",
    "MP-10 delays": "suites/mptcp/test_unequal.py::test_paths_of_unlike_rates_give_their_sum_each_its_share[rates and delays]",
    "MP-11": "suites/mptcp/test_families.py::test_one_ipv6_connection_is_spread_over_both_paths",
    "MP-11 joined": "suites/mptcp/test_families.py::test_an_ipv6_connection_is_joined_by_an_ipv4_path",
    "MP-11 not joined": "suites/mptcp/test_families.py::test_an_ipv4_connection_is_joined_by_no_ipv6_path",
    "TUN-1": "suites/tunnel/test_tunnel.py::test_ssh_over_mptcp_carries_any_ip_and_compression_costs",
    "TUN-2": "suites/tunnel/test_tunnel.py::test_openvpn_over_mptcp_carries_any_ip",
    "TUN-2 again": "suites/tunnel/test_tunnel.py::test_a_tunnel_that_connects_again_has_every_path_again",
    "TUN-3": "suites/tunnel/test_loop.py::test_a_tunnel_that_feeds_on_itself_is_detected_and_named",
    "TUN-3 pending": "suites/tunnel/test_loop.py::test_a_loop_that_is_still_pending_is_named_too",
    "TUN-3 own": "suites/tunnel/test_loop.py::test_each_way_into_the_loop_shows_in_its_form[own_address]",
    "TUN-4": "suites/tunnel/test_loop.py::test_the_guard_for_both_directions_ends_a_loop",
    "TUN-4 article": "suites/tunnel/test_loop.py::test_the_articles_guard_keeps_the_source_side_out",
    "TUN-4 device": "suites/tunnel/test_loop.py::test_a_loop_ends_without_its_endpoints_and_a_guard_of_the_device_keeps_it_out",
    "TUN-4 apart": "suites/tunnel/test_loop.py::test_a_device_in_a_namespace_of_its_own_is_no_path",
    "TUN-4 backup": "suites/tunnel/test_loop.py::test_the_tunnel_as_a_backup_path_is_latent",
    "TUN-4 limit": "suites/tunnel/test_loop.py::test_a_limit_of_one_subflow_a_path_keeps_out_the_tunnel_only_if_it_comes_last",
    "TUN-4 means": "suites/tunnel/test_loop.py::test_a_means_closes_the_ways_that_it_knows_and_no_other[both]",
    "TUN-5": "suites/tunnel/test_tunnel.py::test_udp_through_the_tunnel_passes_one_link",
    "TUN-6": "suites/tunnel/test_tunnel.py::test_udp_to_a_host_beyond_the_far_end_passes_one_link",
    "TUN-6 default": "suites/tunnel/test_tunnel.py::test_a_default_route_through_the_tunnel_leads_beyond_it",
    "TUN-7": "suites/tunnel/test_full_ip.py::test_any_ip_protocol_crosses_the_tunnel_unchanged[openvpn]",
    "APP-1": "suites/applications/test_roaming.py::test_a_download_outlives_the_path_that_it_comes_by[silent]",
    "APP-1 TCP": "suites/applications/test_roaming.py::test_a_download_by_tcp_stands_still_as_long_as_its_path_is_away",
    "APP-2": "suites/applications/test_telephony.py::test_calls_are_kept_and_placed_while_a_path_dies[TCP-silent]",
    "APP-2 TLS": "suites/applications/test_telephony.py::test_calls_are_kept_and_placed_while_a_path_dies[TLS-carrier]",
    "APP-2 plain": "suites/applications/test_telephony.py::test_without_mptcp_most_calls_are_lost_with_their_path[TCP]",
    "APP-3": "suites/applications/test_streaming.py::"
    "test_a_stream_above_one_links_rate_plays_over_mptcp_and_stalls_without_it[on-demand]",
    "APP-3 RTP": "suites/applications/test_streaming.py::"
    "test_the_same_stream_by_rtp_crosses_the_tunnel_over_mptcp_and_is_late_over_one_link",
}
"""The tests of the suites by short names: the behaviour, and what tells its tests apart."""

Outcome = Literal["failed", "error", "passed", "inconclusive"]
Evidence = str | Callable[[], str]
"""Words that show that a fault is in force; a function is asked for them at the test's end, while the lab still lives."""


class When(Enum):
    """The moment at which a fault is done."""

    BUILT = "the lab is built"
    BONDED = "both ends of the LAG are made"
    READY = "the lab is ready, before the test begins"
    TRAFFIC = "the first traffic is about to begin"
    MID = "the first traffic has run for half a second"
    LATE = "the first traffic has run for five seconds"
    LOST = "a link is about to be lost"
    IN_PLACE = "from the start: a scenario's own act is replaced"


@dataclass(frozen=True)
class Expected:
    """What a test must come to in a lab with the fault.

    ``outcomes`` are those that count as caught; ``first`` are the ids of the causes, testbed errors or notes of which one must
    come first; ``words`` is a regular expression that the reason must match.
    """

    outcomes: tuple[Outcome, ...]
    first: tuple[str, ...] = ()
    words: str = ""


def fails(*first: str, words: str = "") -> Expected:
    """Expect a failed behaviour whose first cause is one of these."""
    return Expected(("failed",), first, words)


def unfit(*first: str, words: str = "") -> Expected:
    """Expect an error of the testbed: the lab was found unfit for one of these reasons."""
    return Expected(("error",), first, words)


def caught(*first: str, words: str = "") -> Expected:
    """Expect that no verdict is in favour: a failure, a testbed error or none at all, for one of these reasons."""
    return Expected(("failed", "error", "inconclusive"), first, words)


def noted(*first: str, words: str = "") -> Expected:
    """Expect ``passed, but``: the behaviour holds, and one of these notes says what a reader wants to know."""
    return Expected(("passed",), first, words)


def told(*first: str, words: str = "") -> Expected:
    """Expect that it is not passed over in silence: no verdict in favour, or ``passed, but``, for one of these reasons."""
    return Expected(("failed", "error", "inconclusive", "passed"), first, words)


def unaccused() -> Expected:
    """Expect anything but a failure: what the machine lacks accuses no behaviour."""
    return Expected(("passed", "error", "inconclusive"))


@dataclass(frozen=True)
class Fault:
    """A row: what is done to the lab, when, what must come of it.

    ``says`` is a sentence for the table. ``do`` does it and returns its :data:`Evidence`; ``patches`` are acts of scenarios
    that are replaced: an owner, an attribute, and what makes the new value of the old one and a function that notes its use.
    ``breaks`` says of tests (names of :data:`SUITES`) what they must come to, ``spares`` names those that must pass. A fault
    that breaks nothing is harmless: what it spares must pass without a word.
    """

    id: str
    family: str
    says: str
    do: Callable[[Bench], Evidence] | None = None
    when: When = When.BUILT
    breaks: Mapping[str, Expected] = field(default_factory=dict)
    spares: Sequence[str] = ()
    patches: Sequence[tuple[Any, str, Callable[[Any, Callable[[], None]], Any]]] = ()
    target: str = "netns"
    blind: bool = False
    """Whether the lab's own checks look away, its proof and what is read back: what the test's comparisons notice is tried."""
    quick: bool = False
    """Whether ``make test`` runs it too."""

    @property
    def harmless(self) -> bool:
        """Whether nothing must change."""
        return not self.breaks

    @property
    def tests(self) -> list[str]:
        """The tests that it runs beside, by their names of :data:`SUITES`."""
        return [*self.breaks, *self.spares]
