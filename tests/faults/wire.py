"""Faults of the wire: rate, loss, delay, duplex, size, crossing, duplicates, strangers, carriers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from tests.faults.bench import BOTH, Bench, NotInForce, Way, require
from tests.faults.fault import Evidence, Fault, When, caught, fails, noted, told, unfit


def _rate(share: float, labels: str = "b", ways: tuple[Way, ...] = BOTH) -> Callable[[Bench], Evidence]:
    def do(bench: Bench) -> Evidence:
        change = bench.slow if share < 1 else bench.rate
        shown = [change(label, share, ways) for label in (labels or "".join(one.a.nic for one in bench.cables))]
        return lambda: _some(shown)

    return do


def _some(shown: Sequence[Callable[[], str]]) -> str:
    """Return what shows that cables are in force of which one at least carries the traffic. Raises NotInForce."""
    told, silent = [], []
    for one in shown:
        try:
            told.append(one())
        except NotInForce as error:
            silent.append(str(error))
    return require(told, "; ".join(told or silent))


def _rules(rules: str, label: str = "b", ways: tuple[Way, ...] = BOTH) -> Callable[[Bench], Evidence]:
    return lambda bench: bench.rules(label, rules, ways)


def _line(*words: str, label: str = "b", ways: tuple[Way, ...] = BOTH) -> Callable[[Bench], Evidence]:
    return lambda bench: bench.line(label, *words, ways=ways)


def _lost(one_in: int, label: str = "b", ways: tuple[Way, ...] = BOTH) -> Callable[[Bench], Evidence]:
    return _rules(f"numgen random mod {one_in} 0 counter drop", label, ways)


def _half_duplex(bench: Bench, label: str = "a") -> Evidence:
    """Have both directions of a cable share one rate: all frames pass one bucket, and are told apart behind it."""
    right, left = bench.ports(label, "right"), bench.ports(label, "left")
    mac = bench.left.run("cat", f"/sys/class/net/{bench.device(label)}/address", check=False).stdout.strip()
    if not mac:
        text = bench.left.run("ip", "-o", "link", "show", "dev", bench.device(label)).stdout
        mac = text.partition("link/ether ")[2].split()[0]
    there, back = (f'counter fwd to "port{ports[1]}"' for ports in (right, left))
    bench.hub("half", round(bench.lab.link.rate), f"  ether saddr {mac} {there}\n  {back}")
    shown = bench.rules(label, '  counter fwd to "halfi"')
    return shown


def _crossed(bench: Bench) -> Evidence:
    """Plug the cables' far ends into each other's place."""
    a, b = (bench.ports(label, "right") for label in "ab")
    shown = [
        bench.rules("a", f'  counter fwd to "port{b[1]}"', ("right",)),
        bench.rules("b", f'  counter fwd to "port{a[1]}"', ("right",)),
        bench.rules("a", f'  counter fwd to "port{b[0]}"', ("left",)),
        bench.rules("b", f'  counter fwd to "port{a[0]}"', ("left",)),
    ]
    return lambda: "; ".join(one() for one in shown)


def _stranger(bench: Bench, share: float, label: str = "b", size: int = 1000) -> Evidence:
    """Have somebody else send frames to the server by a cable: a share of its rate, from a port of the panel's own."""
    _, out = bench.ports(label, "right")
    pause = (size + 38) * 8 / (share * bench.lab.link.rate)
    process = bench.panel_script("stranger.py", f"port{out}", str(size), f"{pause:.9f}")

    def shown() -> str:
        require(process.poll() is None, f"the stranger has ended: {process.stderr}")
        process.signal(10)
        return str(process.wait_for(r"sent [1-9]\d* frames", 5.0)[0])

    return shown


def _pulled(bench: Bench) -> Evidence:
    bench.lab.cabling.cut(bench.cables[1])
    return lambda: _no_carrier(bench)


def _no_carrier(bench: Bench) -> str:
    text = bench.left.run("ip", "-o", "link", "show", "dev", bench.device("b"), quiet=True).stdout
    return require("NO-CARRIER" in text, " ".join(text.split()))


def _flapping(bench: Bench) -> Evidence:
    """Have a cable's carrier go for 0.1 s every second."""
    into, _ = bench.ports("b", "right")
    loop = (
        "n=0; echo ready; while :; do ip link set $1 down; sleep 0.1; ip link set $1 up; "
        "n=$((n+1)); echo flap $n; sleep 0.9; done"
    )
    process = bench.panel_spawn("sh", "-c", loop, "flap", f"port{into}")
    process.wait_for("ready", 5.0)
    return lambda: str(process.wait_for(r"flap [1-9]\d*", 3.0)[0])


def _bursts(bench: Bench) -> Evidence:
    """Lose all frames for a tenth of every second, towards the server."""
    into, _ = bench.ports("a", "right")
    bench.rules("a", "  meta mark 99 counter drop", ("right",))
    loop = (
        "echo ready; while :; do nft insert rule netdev fault$1 wire counter drop comment burst; sleep 0.1; "
        "nft -a list chain netdev fault$1 wire | sed -n 's/.*counter packets \\([1-9][0-9]*\\).*burst.*/lost \\1/p'; "
        "nft -a list chain netdev fault$1 wire | sed -n 's/.*burst.*handle \\([0-9]*\\)/\\1/p' | "
        "while read h; do nft delete rule netdev fault$1 wire handle $h; done; sleep 0.9; done"
    )
    process = bench.panel_spawn("sh", "-c", loop, "bursts", str(into))
    process.wait_for("ready", 5.0)
    return lambda: str(process.wait_for(r"lost [1-9]\d*", 5.0)[0])


BIG = "  meta length > {} counter drop"
CORRUPT = "  numgen random mod {} 0 meta length > 200 @nh,1200,8 set 0x5a counter"

RATE = (
    Fault(
        "rate-98-b",
        "rate",
        "cable b carries 98 % of its rate",
        _rate(0.98),
        When.BUILT,
        {"MP-1": unfit("cable-rate", words=r"cable b.*9[78]\.\d+ of 100")},
        quick=True,
    ),
    Fault(
        "rate-97-b-one-way",
        "rate",
        "cable b carries 97 % of its rate towards the server",
        _rate(0.97, "b", ("right",)),
        When.BUILT,
        {"MP-1": unfit("cable-rate"), "TUN-5": unfit("cable-rate")},
    ),
    Fault(
        "rate-90-lag",
        "rate",
        "a member of the LAG carries 90 %",
        _rate(0.90, "b"),
        When.BUILT,
        {"LAG-7": unfit("cable-rate"), "LAG-1": unfit("cable-rate")},
    ),
    Fault(
        "rate-half",
        "rate",
        "every cable carries half its rate",
        _rate(0.5, ""),
        When.BUILT,
        {"LAG-1": caught("cable-rate"), "LAG-2": caught("cable-rate")},
    ),
    Fault(
        "rate-half-from-traffic",
        "rate",
        "every cable falls to half its rate as the traffic begins",
        _rate(0.5, ""),
        When.TRAFFIC,
        {"LAG-1": caught("cable-rate", words=r"4\d\.|50\.\d"), "LAG-2": caught("cable-rate", words=r"4\d\.|50\.\d")},
    ),
    Fault(
        "rate-double",
        "rate",
        "every cable carries twice its rate",
        _rate(2.0, ""),
        When.BUILT,
        {name: caught("cable-rate") for name in ("LAG-6 HTTP", "LAG-6 FTP", "LAG-6 SFTP")},
    ),
    Fault(
        "rate-half-unproved",
        "comparisons",
        "every cable carries half its rate, and the lab is not proved",
        _rate(0.5, ""),
        When.TRAFFIC,
        {
            "LAG-1": fails(words=r"goodput of 4\d.* expected 93.2"),
            "LAG-2": fails(words=r"goodput of 4\d.* expected 94.7"),
        },
        blind=True,
    ),
    Fault(
        "rate-double-unproved",
        "comparisons",
        "every cable carries twice its rate, and the lab is not proved",
        _rate(2.0, ""),
        When.BUILT,
        {
            "LAG-6 HTTP": fails(words=r"HTTP goodput of 1\d\d.*one link"),
            "LAG-6 FTP": fails(words=r"FTP goodput of 1\d\d.*one link"),
            "LAG-6 SFTP": fails(words=r"SFTP goodput of 1\d\d.*one link"),
        },
        blind=True,
    ),
    Fault(
        "rate-tenth-unproved",
        "comparisons",
        "every cable carries a tenth of its rate, and the lab is not proved",
        _rate(0.1, ""),
        When.BUILT,
        {"MP-6": fails(words=r"goodput of [789]\.\d.* expected 83.33 Mbit/s to")},
        blind=True,
    ),
    Fault(
        "rate-103-a",
        "rate",
        "cable a carries 103 % of its rate",
        _rate(1.03, "a"),
        When.BUILT,
        {"LAG-1": unfit("cable-rate"), "MP-4": unfit("cable-rate")},
    ),
    Fault(
        "rate-tenth",
        "rate",
        "every cable carries a tenth of its rate from the first traffic on",
        _rate(0.1, ""),
        When.TRAFFIC,
        {"MP-6": caught("cable-rate", words=r"[789]\.\d|10\.\d")},
    ),
    Fault(
        "rate-80-mid",
        "rate",
        "every cable falls to 80 % soon after the traffic began",
        _rate(0.8, ""),
        When.MID,
        {"LAG-1": caught("cable-rate")},
    ),
    Fault(
        "rate-harmless",
        "harmless",
        "cable b carries 99.9 % of its rate",
        _rate(0.999),
        When.BUILT,
        {},
        ("MP-1", "LAG-7"),
    ),
)

LOSS = (
    Fault(
        "loss-0.5-b",
        "loss",
        "cable b loses one frame in 200, both ways",
        _lost(200),
        When.BUILT,
        {"MP-1": unfit("cable-loss")},
        quick=True,
    ),
    Fault(
        "loss-0.2-a-one-way",
        "loss",
        "cable a loses one frame in 500 towards the server",
        _lost(500, "a", ("right",)),
        When.BUILT,
        {"LAG-1": unfit("cable-loss"), "MP-3": unfit("cable-loss")},
    ),
    Fault(
        "loss-5-b",
        "loss",
        "cable b loses one frame in 20 from the first traffic on",
        _lost(20),
        When.TRAFFIC,
        {"TUN-5": caught("cable-loss")},
    ),
    Fault(
        "loss-5-lag-mid",
        "loss",
        "both members of the LAG lose 5 % from soon after the traffic began",
        lambda bench: _two(_lost(20, "a")(bench), _lost(20, "b")(bench)),
        When.MID,
        {"LAG-1": told("cable-loss", "loss", "retransmissions")},
    ),
    Fault(
        "loss-bursts-a",
        "loss",
        "cable a loses all for a tenth of every second, towards the server",
        _bursts,
        When.BUILT,
        {"MP-4": caught("cable-loss", "loss")},
    ),
    Fault(
        "loss-corrupted",
        "loss",
        "one large frame in 100 of cable b has a byte changed",
        _rules(CORRUPT.format(100)),
        When.TRAFFIC,
        {"MP-1": noted("retransmissions")},
    ),
    Fault(
        "loss-acks",
        "loss",
        "cable b loses one small frame in three towards the client",
        _rules("  meta length < 200 numgen random mod 3 0 counter drop", "b", ("left",)),
        When.TRAFFIC,
        {"TUN-6": noted("retransmissions")},
    ),
    Fault(
        "loss-harmless",
        "harmless",
        "cable b loses one frame in 1 000 000",
        _rules("  numgen random mod 1000000 0 counter drop\n  counter"),
        When.BUILT,
        {},
        ("MP-1",),
    ),
)

DELAY = (
    Fault(
        "delay-50-b",
        "delay",
        "cable b takes 50 ms each way",
        _line("50"),
        When.BUILT,
        {"MP-1": unfit("cable-delay")},
    ),
    Fault(
        "delay-5-a",
        "delay",
        "cable a takes 5 ms each way",
        _line("5", label="a"),
        When.BUILT,
        {"LAG-1": unfit("cable-delay"), "MP-4": unfit("cable-delay")},
        quick=True,
    ),
    Fault(
        "delay-20-one-way",
        "delay",
        "cable b takes 20 ms towards the client",
        _line("20", ways=("left",)),
        When.BUILT,
        {"TUN-2": unfit("cable-delay")},
    ),
    Fault(
        "delay-jitter-b",
        "delay",
        "frames of cable b take up to 5 ms and overtake each other",
        _line("0", "5"),
        When.BUILT,
        {"MP-1": unfit("cable-delay")},
    ),
    Fault(
        "delay-harmless",
        "harmless",
        "cable b takes 0.02 ms more",
        _line("0.02"),
        When.TRAFFIC,
        {},
        ("MP-6",),
    ),
)


def _two(one: Evidence, other: Evidence) -> Evidence:
    return lambda: "; ".join(each if isinstance(each, str) else each() for each in (one, other))


SHAPE = (
    Fault(
        "half-duplex-a",
        "duplex",
        "cable a is half duplex: both ways share its rate",
        _half_duplex,
        When.BUILT,
        {"LAG-1": unfit("cable-duplex", "cable-rate"), "MP-4": unfit("cable-duplex", "cable-rate")},
    ),
    Fault(
        "size-1499-b",
        "size",
        "cable b takes no packet of 1500 bytes",
        _rules(BIG.format(1499)),
        When.BUILT,
        {"MP-1": unfit("cable-size")},
    ),
    Fault(
        "size-1400-a-mid",
        "size",
        "cable a takes no packet above 1400 bytes from soon after the traffic began",
        _rules(BIG.format(1400), "a"),
        When.MID,
        {"MP-4": caught("cable-size")},
    ),
    Fault(
        "crossed",
        "crossing",
        "the cables' far ends are plugged into each other's place",
        _crossed,
        When.BUILT,
        {"MP-1": unfit("cable-crossed"), "LAG-1": unfit("cable-crossed")},
    ),
    Fault(
        "doubled-1",
        "duplicates",
        "one frame in 100 of cable b arrives twice",
        _rules("  numgen random mod 100 0 counter dup to OUT"),
        When.BUILT,
        {"MP-1": unfit("cable-duplicates", "cable-foreign")},
    ),
    Fault(
        "doubled-all",
        "duplicates",
        "every frame of cable a arrives twice",
        _rules("  counter dup to OUT", "a"),
        When.BUILT,
        {
            "LAG-2": unfit("cable-duplicates", "cable-foreign"),
            "MP-4": unfit("cable-duplicates", "cable-foreign", "cable-rate"),
        },
    ),
    Fault(
        "stranger-1",
        "strangers",
        "somebody else sends on cable b, 1 % of its rate",
        partial(_stranger, share=0.01),
        When.BUILT,
        {"MP-1": unfit("cable-foreign")},
    ),
    Fault(
        "stranger-20-mid",
        "strangers",
        "somebody else sends on cable a, 20 % of its rate, from the first traffic on",
        partial(_stranger, share=0.2, label="a"),
        When.TRAFFIC,
        {"MP-4": caught("cable-foreign")},
    ),
    Fault(
        "silent-b",
        "carrier",
        "cable b lets nothing through, and its carrier stays",
        _rules("  counter drop"),
        When.BUILT,
        {"MP-1": unfit("cable-unheard", "cable-loss"), "LAG-4": caught("cable-unheard", "cable-loss")},
    ),
    Fault(
        "silent-b-one-way",
        "carrier",
        "cable b lets nothing through towards the server from the first traffic on",
        _rules("  counter drop", "b", ("right",)),
        When.TRAFFIC,
        {"MP-1": caught("cable-unheard", "cable-loss"), "TUN-2": caught("cable-unheard", "cable-loss")},
    ),
    Fault(
        "pulled",
        "carrier",
        "cable b is pulled as the traffic begins",
        _pulled,
        When.TRAFFIC,
        {
            "LAG-1": fails("no-carrier", words=r"links at work at left of 1, expected exactly 2"),
            "LAG-2": fails("no-carrier", words=r"links at work at left of 1, expected exactly 2"),
            "LAG-3": fails("no-carrier", words=r"LACP frames passed idle left.b of 0, expected exactly 2"),
            "LAG-6 HTTP": fails("no-carrier", words=r"links at work at west of 1, expected exactly 2"),
            "LAG-7": fails("no-carrier", words=r"expected at least 175.*west's NIC b .* its cable is pulled"),
            "MP-1 three": fails("no-carrier", words=r"expected at least 260.*NIC b .* its cable is pulled"),
            "TUN-1": fails("no-carrier", words=r"NIC b .* its cable is pulled"),
            "TUN-2": fails("no-carrier", words=r"expected at least 140.*NIC b .* its cable is pulled"),
            "TUN-5": fails("no-carrier", words=r"expected at least 130.*NIC b .* its cable is pulled"),
            "TUN-6": fails("no-carrier", words=r"expected at least 130.*NIC b .* its cable is pulled"),
        },
        ("MP-4",),
    ),
    Fault(
        "pulled-trunk",
        "carrier",
        "cable b is pulled before the LAG is made",
        _pulled,
        When.BUILT,
        {"LAG-4": caught("cable-carrier", "no-carrier", words=r"eth2.* no (link|carrier)|cable.* is pulled|cable b")},
    ),
    Fault(
        "flapping-b",
        "carrier",
        "cable b's carrier goes for a tenth of every second",
        _flapping,
        When.TRAFFIC,
        {"MP-1": caught("carrier-flaps", "cable-carrier", words="carrier")},
    ),
)

FAULTS = (*RATE, *LOSS, *DELAY, *SHAPE)
