"""What the diagnosis takes from the words of hosts: their endpoints as they were while the traffic ran."""

from __future__ import annotations

from channover.model.state import Endpoint
from channover.scenarios.diagnosis.hosts import endpoints

TOLD = """\
10.93.93.1 id 1 subflow fullmesh
10.94.94.1 port 4433 id 2 signal dev eth2
fd00:93::1 id 3 subflow backup dev eth1
"""


def test_endpoints_are_read_from_the_words_of_ip() -> None:
    assert endpoints(TOLD) == {
        1: Endpoint(1, "10.93.93.1", ("subflow", "fullmesh"), None),
        2: Endpoint(2, "10.94.94.1", ("signal",), "eth2", 4433),
        3: Endpoint(3, "fd00:93::1", ("subflow", "backup"), "eth1"),
    }
    assert endpoints("") == {}
