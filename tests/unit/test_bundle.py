"""The sign-off bundle: what gets in, who signed, and that nothing can be changed unnoticed."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import pytest

from channover.errors import UsageError
from channover.report.facts import moment
from channover.report.signoff import archive, bundle, certificate, proof
from channover.report.signoff import redaction as secrets
from channover.report.signoff import signature as ssh
from channover.report.signoff.bundle import SIGNATURE, SIGNER, SUMS, Signed, sign_off, verify
from channover.report.signoff.proof import Finding
from tests.support import keys, runs
from tests.support.commands import command
from tests.support.keys import new_key

key = keys.key

pytestmark = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="no ssh-keygen: install openssh-client")
NOW = datetime(2026, 2, 1, 9, 30, tzinfo=timezone.utc)
PRIVATE = "-----BEGIN OPENSSH " + "PRIVATE KEY-----"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = runs.saved(runs.four_states(), tmp_path / "run")
    raw = folder / "allure-results"
    raw.mkdir()
    (raw / "0a-result.json").write_text('{"name": "señal 信号"}', "utf-8")
    (raw / "1b-attachment.txt").write_text("ip -j addr\n", "utf-8")
    (raw / "empty").touch()
    (folder / "report.html").write_text("<p>report</p>", "utf-8")
    return folder


def signed(run: Path, key: Path) -> Signed:
    return sign_off(run, key, now=NOW, pdf=False, anyway=True)


def allowed_by(key: Path, folder: Path, principal: str = "engineer@lab.example") -> Path:
    path = folder / "allowed_signers"
    path.write_text(f"{principal} {key.with_name(key.name + '.pub').read_text()}")
    return path


def repacked(path: Path, change: Callable[[dict[str, bytes]], object]) -> Path:
    """Return a bundle whose archive is sound, and whose members were changed."""
    members = dict(archive.unpack(path).members)
    change(members)
    other = path.with_name("other.zip")
    other.unlink(missing_ok=True)
    archive.pack(members, other)
    return other


def forged(made: Signed, key: Path, change: Callable[[dict[str, bytes]], object]) -> bundle.Verified:
    """Verify a bundle whose members somebody changed who may sign: the checksums and the signature are good."""

    def change_and_sign(members: dict[str, bytes]) -> None:
        change(members)
        rest = {name: data for name, data in members.items() if name not in (SUMS, SIGNATURE)}
        if change is not empty_the_list:
            members[SUMS] = bundle.sums(rest)
        members[SIGNATURE] = ssh.sign(members[SUMS], key)

    return verify(repacked(made.path, change_and_sign))


def empty_the_list(members: dict[str, bytes]) -> None:
    members[SUMS] = b""


# ------------------------------------------------------------------------------------------------------------ honest


def test_a_bundle_holds_the_evidence_and_verifies(run: Path, key: Path, tmp_path: Path) -> None:
    made = signed(run, key)
    found = verify(made.path)
    assert found.good and found.principal is None and found.claimed == "engineer@lab.example"
    assert found.fingerprint == made.fingerprint and found.about["decision"] == "NOT ACCEPTED"
    assert found.about["certificate"] == made.certificate.id
    assert found.about["signed"] == moment(NOW) and moment(NOW)[:10] in made.certificate.page.read_text("utf-8")
    assert hashlib.sha256(made.path.read_bytes()).hexdigest() == made.sha256
    members = archive.unpack(made.path).members
    assert set(members) == {
        "SHA256SUMS",
        "SHA256SUMS.sig",
        "allure-results/0a-result.json",
        "allure-results/1b-attachment.txt",
        "allure-results/empty",
        "certificate.html",
        "report.html",
        "results.json",
        "signer.pub",
        "signoff.json",
    }
    assert made.fingerprint in members["certificate.html"].decode()
    found = verify(made.path, allowed_by(key, tmp_path))
    assert found.good and found.principal == "engineer@lab.example"


def test_it_is_checked_without_channover_too(run: Path, key: Path, tmp_path: Path) -> None:
    made = signed(run, key)
    out = tmp_path / "out"
    with zipfile.ZipFile(made.path) as packed:
        packed.extractall(out)
    subprocess.run(["sha256sum", "--strict", "-c", SUMS], cwd=out, check=True, capture_output=True)
    words = [
        "-Y",
        "verify",
        "-f",
        str(allowed_by(key, tmp_path)),
        "-I",
        "engineer@lab.example",
        "-n",
        "channover-signoff",
    ]
    sums = (out / SUMS).read_bytes()
    subprocess.run(["ssh-keygen", *words, "-s", out / SIGNATURE], input=sums, check=True, capture_output=True)


def test_the_same_run_makes_the_same_bytes(run: Path, key: Path, tmp_path: Path) -> None:
    first = signed(run, key).path.read_bytes()
    for path in run.rglob("*"):
        path.touch()
    again = tmp_path / "copy"
    shutil.copytree(run, again)
    assert signed(again, key).path.read_bytes() == first


def test_a_waiver_goes_into_the_bundle(run: Path, key: Path, tmp_path: Path) -> None:
    waivers = tmp_path / "w.yml"
    waivers.write_text("waivers: [{behaviour: LAG-2, who: A. E., why: known, until: 2026-02-01}]", "utf-8")
    made = sign_off(run, key, waivers=waivers, now=NOW, pdf=False, anyway=True)
    assert archive.unpack(made.path).members["waivers.yaml"] == waivers.read_bytes()


@pytest.mark.parametrize("options", [("-t", "ecdsa", "-N", ""), ("-t", "rsa", "-b", "2048", "-N", "")])
def test_other_kinds_of_keys_sign_too(run: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    key = new_key(tmp_path, "other", *options)
    key.with_name("other.pub").unlink()  # the public half is in the private one
    assert verify(signed(run, key).path).good


# ----------------------------------------------------------------------------------------------------------- changed


def test_every_changed_byte_is_noticed_and_named(run: Path, key: Path) -> None:
    made = signed(run, key)
    data = made.path.read_bytes()
    with zipfile.ZipFile(made.path) as packed:
        ranges = {
            info.filename: (info.header_offset, info.header_offset + 30 + len(info.filename) + info.compress_size)
            for info in packed.infolist()
        }
    members = archive.unpack(made.path).members
    other = made.path.with_name("other.zip")
    for place in [*range(0, len(data), max(len(data) // 150, 1)), *range(len(data) - 60, len(data))]:
        other.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        within = [name for name, (start, end) in ranges.items() if start <= place < end]
        try:
            found = verify(other)
        except UsageError as refused:
            assert "refused" in str(refused), place
            continue
        assert not found.good, place
        places = {finding.place for finding in found.findings}
        if within and within[0] not in places:  # a date, or the padding of its packed form: what it holds is the same
            assert "the archive" in places and within[0] in archive.unpack(other).members, (place, found.findings)
            assert archive.unpack(other).members[within[0]] == members[within[0]], place


@pytest.mark.parametrize("cut", [1, 30, 400])
def test_a_bundle_that_was_cut_or_continued_is_noticed(run: Path, key: Path, cut: int) -> None:
    made = signed(run, key)
    data = made.path.read_bytes()
    for changed in (data[:-cut], data + b"x" * cut, data[: cut * 2] + data[cut * 3 :]):
        made.path.write_bytes(changed)
        try:
            assert not verify(made.path).good
        except UsageError as refused:
            assert "no bundle" in str(refused)


def test_changed_missing_and_added_files_are_named(run: Path, key: Path) -> None:
    made = signed(run, key)

    def change(members: dict[str, bytes]) -> None:
        members["results.json"] = members["results.json"].replace(b'"failed"', b'"passed"')
        del members["allure-results/empty"]
        members["allure-results/extra.txt"] = b"extra"

    found = verify(repacked(made.path, change))
    assert {(each.place, each.what.partition(":")[0]) for each in found.findings} == {
        ("results.json", "changed"),
        ("allure-results/empty", "missing"),
        ("allure-results/extra.txt", "added"),
        ("certificate.html", "was not made from the results.json beside it"),
    }


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_one_file_that_was_changed_is_named_in_a_bundle_that_was_zipped_anew(run: Path, key: Path, method: int) -> None:
    made = signed(run, key)
    members = {**archive.unpack(made.path).members, "allure-results/extra.txt": b"extra"}
    del members["allure-results/empty"]
    members["report.html"] = b"<p>better</p>"
    other = made.path.with_name("anew.zip")
    with zipfile.ZipFile(other, "w", method) as packed:
        packed.mkdir("allure-results") if hasattr(packed, "mkdir") else packed.writestr("allure-results/", b"")
        for name, data in reversed(members.items()):
            packed.writestr(name, data)
    assert {(each.place, each.what.partition(":")[0]) for each in verify(other).findings} == {
        ("the archive", "was packed anew by another program"),
        ("report.html", "changed"),
        ("allure-results/empty", "missing"),
        ("allure-results/extra.txt", "added"),
    }


def test_checksums_that_were_made_anew_do_not_fit_the_signature(run: Path, key: Path) -> None:
    made = signed(run, key)

    def forge(members: dict[str, bytes]) -> None:
        members["report.html"] = b"better"
        rest = {name: data for name, data in members.items() if name not in (SUMS, SIGNATURE)}
        members[SUMS] = bundle.sums(rest)

    found = verify(repacked(made.path, forge))
    assert [finding.place for finding in found.findings] == [SIGNATURE]
    assert "the signature does not hold" in found.findings[0].what


def test_another_signer_is_seen(run: Path, key: Path, tmp_path: Path) -> None:
    mallory = new_key(tmp_path, "mallory")
    allowed = allowed_by(key, tmp_path)
    theirs = sign_off(run, mallory, identity="engineer@lab.example", now=NOW, pdf=False, anyway=True)
    assert verify(theirs.path).good  # integrity, not identity
    found = verify(theirs.path, allowed)
    assert not found.good and found.principal is None and "not allowed" in found.findings[0].what
    key_there = key.with_name("engineer.pub").read_bytes()
    found = verify(repacked(theirs.path, lambda members: members.update({SIGNER: key_there})))
    assert Finding(SIGNER, "is not the key of the signature") in found.findings


def test_a_signature_for_something_else_does_not_count(run: Path, key: Path, tmp_path: Path) -> None:
    made = signed(run, key)

    def resign(members: dict[str, bytes]) -> None:
        file = tmp_path / "sums"
        file.write_bytes(members[SUMS])
        subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", key, file], check=True)
        members[SIGNATURE] = (tmp_path / "sums.sig").read_bytes()

    assert "does not hold" in verify(repacked(made.path, resign)).findings[0].what


@pytest.mark.parametrize("name", [SUMS, SIGNATURE, SIGNER, "results.json", "certificate.html"])
@pytest.mark.parametrize("content", [None, b"", b"\xff\x00", b"-----BEGIN SSH SIGNATURE-----\nU1NI\n"])
def test_no_part_can_be_missing_or_nonsense(run: Path, key: Path, name: str, content: bytes | None) -> None:
    def change(members: dict[str, bytes]) -> None:
        del members[name]
        if content is not None:
            members[name] = content

    found = verify(repacked(signed(run, key).path, change))
    assert {name, SIGNATURE} & {finding.place for finding in found.findings}


# ------------------------------------------------------------------------------------------------- signed, and untrue


def edit(name: str, *changes: tuple[str, str]) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        text = members[name].decode("utf-8")
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        members[name] = text.encode("utf-8")

    return change


UNTRUE = {
    "the verdict": edit("certificate.html", ("NOT ACCEPTED", "ACCEPTED"), ("not-accepted", "accepted")),
    "one row": edit("certificate.html", ("✗ failed", "✓ passed")),
    "one more sentence": edit("certificate.html", ("</header>", "</header><p>ACCEPTED for all hardware</p>")),
    "a value": edit("certificate.html", ("61.2", "94.1")),
    "its style": edit("certificate.html", ("<style>", '<style>.verdict::after { content: "ACCEPTED" }')),
}


@pytest.mark.parametrize("what", UNTRUE)
def test_a_certificate_that_says_more_than_its_results_is_not_good_though_it_is_signed(
    run: Path, key: Path, what: str
) -> None:
    made = signed(run, key)
    assert forged(made, key, dict.copy).good
    found = forged(made, key, UNTRUE[what])
    (finding,) = found.findings
    assert finding.place == "certificate.html" and "does not say what its results and waivers say" in finding.what
    assert found.decision == "NOT ACCEPTED" and not found.good


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("decision", "NOT ACCEPTED", "ACCEPTED for the hardware named here"),
        ("certificate", "CHO-", "CHX-"),
        ("run", "20260131T120000Z", "20260231T120000Z"),
        ("target", "netns", "physical"),
        ("key", "SHA256:", "SHA512:"),
    ],
)
def test_the_signed_word_is_compared_with_what_the_results_give(
    run: Path, key: Path, name: str, old: str, new: str
) -> None:
    found = forged(signed(run, key), key, edit(proof.ABOUT, (f'"{name}": "{old}', f'"{name}": "{new}')))
    said = [finding.what for finding in found.findings if finding.place == proof.ABOUT]
    assert len(said) == 1 and said[0].startswith(f"says {name} '{new}") and "by results and waivers it is" in said[0]


@pytest.mark.parametrize("name", ["odd", "physical", "large"])
def test_an_honest_bundle_is_good_whatever_its_names_and_texts(key: Path, tmp_path: Path, name: str) -> None:
    results = {"odd": runs.odd, "physical": runs.physical, "large": runs.large}[name]()
    folder = runs.saved(results, tmp_path / "run")
    for number, text in enumerate(runs.ODD[: 1 if name == "large" else None]):
        made = sign_off(folder, key, identity=text, lab=text, pdf=False, anyway=True, out=tmp_path / f"{number}.zip")
        found = verify(made.path)
        assert found.findings == () and found.decision == made.certificate.decision.text, text


def test_what_another_version_has_made_cannot_be_called_good(run: Path, key: Path) -> None:
    made = signed(run, key)
    old = edit(proof.ABOUT, (proof.maker(), "channover 0.0.9 (000000000000)"))
    found = forged(made, key, old)
    (finding,) = found.findings
    assert finding.place == "certificate.html" and "was made by channover 0.0.9" in finding.what
    assert proof.maker() in finding.what and found.decision == "NOT ACCEPTED" and not found.good
    former = forged(made, key, lambda members: members.update({proof.ABOUT: b'{"format": 1}'}))
    assert not former.good and "cannot be made again" in former.findings[0].what


def test_waivers_count_as_they_are_in_the_bundle(key: Path, tmp_path: Path) -> None:
    folder = runs.saved(runs.results(runs.test("LAG-1", "failed", "no"), runs.test("MP-1")), tmp_path / "waived")
    waivers = tmp_path / "w.yml"
    text = "waivers: [{behaviour: LAG-1, who: A. E., why: known, until: 2026-02-01}]"
    waivers.write_text(text, "utf-8")
    made = sign_off(folder, key, waivers=waivers, now=NOW, pdf=False)  # CONDITIONAL: nobody has to say anyway
    found = verify(made.path)
    assert found.good and found.decision == made.certificate.decision.text and "CONDITIONAL" in found.decision
    without = forged(made, key, lambda members: members.pop(proof.WAIVERS))
    assert not without.good and without.decision == "NOT ACCEPTED"
    expired = text.replace("2026-02-01", "2026-01-31").encode()
    late = forged(made, key, lambda members: members.update({proof.WAIVERS: expired}))
    assert not late.good and "expired on 2026-01-31" in late.findings[0].what
    longer = text.replace("known", "known, and far worse").encode()
    assert not forged(made, key, lambda members: members.update({proof.WAIVERS: longer})).good


@pytest.mark.parametrize("name", ["results.json", "certificate.html", proof.ABOUT, SIGNER])
def test_a_bundle_without_a_part_that_it_needs_is_not_good_though_it_is_signed(run: Path, key: Path, name: str) -> None:
    found = forged(signed(run, key), key, lambda members: members.pop(name))
    assert Finding(name, "missing") in found.findings and not found.good


def test_a_signed_list_of_nothing_is_not_good(run: Path, key: Path) -> None:
    made = signed(run, key)
    assert Finding("results.json", "added: it was not signed") in forged(made, key, empty_the_list).findings

    def only_the_list(members: dict[str, bytes]) -> None:
        for name in [*members]:
            if name != SIGNER:
                del members[name]

    found = forged(made, key, only_the_list)
    assert {"results.json", "certificate.html"} <= {finding.place for finding in found.findings}


@pytest.mark.parametrize("name", ["certificate.pdf", "README.txt", "certificates/certificate.html", "allure-results"])
def test_nothing_else_belongs_into_a_bundle(run: Path, key: Path, name: str) -> None:
    found = forged(signed(run, key), key, lambda members: members.update({name: b"ACCEPTED"}))
    assert found.findings == (Finding(name, "is nothing that belongs into a bundle"),)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"version": 1}', b"\xff", b"[" * 100_000, b'{"version": 1e999, "run": {}, "tests": []}']
)
def test_results_that_are_none_are_one_line(run: Path, key: Path, content: bytes) -> None:
    def change(members: dict[str, bytes]) -> None:
        digests = [hashlib.sha256(data).hexdigest() for data in (members["results.json"], content)]
        edit("certificate.html", (digests[0], digests[1]))(members)
        members["results.json"] = content

    (finding,) = forged(signed(run, key), key, change).findings
    assert finding.place == "the decision" and "cannot be made again" in finding.what and "\n" not in finding.what


# ----------------------------------------------------------------------------------------------------------- refused


def crafted(path: Path, *members: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for info, data in members:
            packed.writestr(info, data)
    return path


@pytest.mark.parametrize(
    "name",
    ["../up", "/etc/passwd", "a/../../up", "a//b", "./a", "C:/x", "..\\up", "a\x1b[31m", "a\nb", "\u202egnp.exe"],
)
def test_names_that_point_outside_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="refused: member") as refused:
        verify(crafted(tmp_path / "b.zip", (name, b"x")))
    assert "\n" not in str(refused.value) and "\x1b" not in str(refused.value)


def test_a_member_without_a_name_is_refused(tmp_path: Path) -> None:
    data = bytearray(crafted(tmp_path / "b.zip", ("x", b"x")).read_bytes())
    for at in (26, data.index(b"PK\x01\x02") + 28):  # the length of the name, and behind it that of what follows
        data[at], data[at + 2] = 0, 1
    (tmp_path / "b.zip").write_bytes(data)
    with pytest.raises(UsageError, match="refused: member '': it has no name"):
        verify(tmp_path / "b.zip")


def test_links_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("results.json")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(UsageError, match="link"):
        verify(crafted(tmp_path / "b.zip", (link, b"/etc/passwd")))
    for name, data in (("folder/", b"x"), ("../folder/", b"")):
        with pytest.raises(UsageError, match=r"outside|regular"):
            verify(crafted(tmp_path / "c.zip", (name, data)))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_twice_is_refused(tmp_path: Path) -> None:
    for names in (("a", "a"), ("a", "A")):
        with pytest.raises(UsageError, match="twice"):
            verify(crafted(tmp_path / "b.zip", *((name, b"x") for name in names)))


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = crafted(tmp_path / "b.zip", ("a", bytes(50_000_000)))
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + 24  # the size in the directory: it lies
    data[at : at + 4] = (1000).to_bytes(4, "little")
    lying = tmp_path / "lying.zip"
    lying.write_bytes(data)
    assert "a" in {finding.place for finding in verify(lying).findings}
    data[at : at + 4] = (0xFFFFFFF0).to_bytes(4, "little")
    lying.write_bytes(data)
    with pytest.raises(UsageError, match="unpacks to more"):
        verify(lying)
    monkeypatch.setattr(archive, "MOST_BYTES", 10_000_000)
    with pytest.raises(UsageError, match="unpacks to more"):
        verify(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x1f\x8b" + bytes(99), b"PK\x05\x06", b"PK\x03\x04" + bytes(99)])
def test_other_files_are_no_bundle(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(content)
    try:
        assert not verify(path).good
    except UsageError as refused:
        assert str(path) in str(refused) and "\n" not in str(refused)
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            verify(missing)


def test_a_pipe_is_one_line_and_nobody_waits_for_it(tmp_path: Path, run: Path, key: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    program = Path(sys.executable).with_name("channover")
    for words in (
        ("verify", pipe),
        ("verify", "/dev/zero"),
        ("sign-off", run, "--key", pipe, "--anyway"),
        ("sign-off", run, "--key", key, "--waivers", pipe, "--anyway"),
        ("certificate", pipe),
    ):
        done = subprocess.run([program, *words], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr, words
    (run / "report.html").unlink()
    os.mkfifo(run / "report.html")
    with pytest.raises(UsageError, match=r"report\.html: not packed: no regular file"):
        signed(run, key)


def crooked(made: Path, kind: str) -> bytes:
    """Return the bytes of a bundle with one member that no bundle has; what is not asked for stays as it was."""
    data = bytearray(made.read_bytes())
    at = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)  # the second of the directory
    offset = int.from_bytes(data[at + 42 : at + 46], "little")
    if kind == "encrypted":
        data[at + 8] |= 1
        data[offset + 6] |= 1
    elif kind == "packed otherwise":
        data[at + 10] = data[offset + 8] = 99
    elif kind == "no UTF-8":
        data[at + 9] |= 8
        data[offset + 7] |= 8
        data[at + 46] = data[offset + 30] = 0xFF
    elif kind == "beyond the end":
        data[at + 42 : at + 46] = (0xFFFFFF00).to_bytes(4, "little")
    elif kind == "within another":
        data[at + 42 : at + 46] = bytes(4)
    elif kind == "needs more":
        data[at + 6] = 99
    return bytes(data)


@pytest.mark.parametrize(
    "kind", ["encrypted", "packed otherwise", "no UTF-8", "beyond the end", "within another", "needs more"]
)
def test_members_as_no_bundle_has_them_are_named(
    run: Path, key: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    made = signed(run, key)
    made.path.write_bytes(crooked(made.path, kind))
    assert command("verify", made.path) == 1
    said = capsys.readouterr()
    assert "NOT good" in said.out and said.err == ""


def test_four_hundred_damaged_bundles_are_each_told(run: Path, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = signed(run, key).path.read_bytes()
    chance = random.Random(15)
    for number in range(400):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 1, 2, 20))):
            at, size = chance.randrange(len(data)), chance.choice((1, 2, 16, 300))
            match chance.randrange(5):
                case 0:
                    data[at] ^= 1 << chance.randrange(8)
                case 1:
                    data[at : at + size] = chance.randbytes(size)
                case 2:
                    del data[at : at + size]
                case 3:
                    data[at:at] = chance.randbytes(size)
                case 4:
                    data[at:at] = data[at : at + size]
        if data == whole:
            continue
        path = run / "damaged.zip"
        path.write_bytes(data)
        code = command("verify", path)
        said = capsys.readouterr()
        assert code == 1 or (code == 2 and said.err.count("\n") == 1), number
        assert code == 2 or (said.out.count("\n") >= 2 and said.err == "" and "NOT good" in said.out), number


# ----------------------------------------------------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.txt", f"{PRIVATE}\nb3Bl", "private key"),
        ("x.json", '{"a": "' + PRIVATE.replace("OPENSSH", "EC") + '\\nMHc"}', "private key"),
        ("x.ovpn", "-----BEGIN OpenVPN Static key V1-----", "private key"),
        ("id_rsa", "nothing", "its name"),
        (".env", "nothing", "its name"),
        ("x.txt", "AKIA" + "ABCDEFGHIJKLMNOP", "access token"),
        ("x.txt", "it said hunter2-hunter2 to me", "LAB_PASSWORD"),
        ("x.txt", "PATH=/opt/bin\nHOME=/home/engineer\nLAB_HOST=bilbao-7\n", "copy of the environment"),
    ],
)
def test_secrets_are_refused_by_name_and_not_repeated(
    run: Path, key: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str, reason: str
) -> None:
    for variable, value in {
        "HOME": "/home/engineer",
        "LAB_HOST": "bilbao-7",
        "LAB_PASSWORD": "hunter2-hunter2",
    }.items():
        monkeypatch.setenv(variable, value)
    if "PATH=" in content:
        content = content.replace("/opt/bin", os.environ["PATH"])
    (run / "allure-results" / name).write_text(content, "utf-8")
    with pytest.raises(UsageError, match=reason) as refused:
        signed(run, key)
    assert name in str(refused.value) and "hunter2" not in str(refused.value)
    assert not list(run.glob("*.zip*")) and not list(run.glob(".*"))


def test_the_key_is_not_in_the_bundle_even_where_it_lies_in_the_run(run: Path) -> None:
    key = new_key(run, "engineer")
    made = signed(run, key)
    body = key.read_bytes().splitlines()[2]
    assert all(body not in data for data in archive.unpack(made.path).members.values())
    shutil.copy(key, run / "allure-results" / "notes.txt")
    with pytest.raises(UsageError, match=r"notes\.txt: not packed: it has a private key"):
        signed(run, key)


def test_what_a_page_has_in_base64_is_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_TOKEN", "hunter2-hunter2")
    hidden = base64.b64encode(b"x" * 60 + b"hunter2-hunter2" + b"y" * 60).decode()
    assert "LAB_TOKEN" in (secrets.find("report.html", f'd("data/a.txt","{hidden}")'.encode()) or "")
    assert secrets.find("report.html", b"<p>nothing</p>") is None


def test_a_password_on_the_command_line_is_refused(tmp_path: Path, key: Path) -> None:
    for words in (("--ssh-password", "x"), ("--token=x",)):
        folder = runs.saved(runs.results(runs.test(), command=("pytest", *words)), tmp_path / words[0])
        with pytest.raises(UsageError, match="command line"):
            signed(folder, key)


def test_links_and_pipes_in_a_run_are_not_packed(run: Path, key: Path) -> None:
    raw = run / "allure-results"
    for make in (lambda p: p.symlink_to("/etc/passwd"), lambda p: p.symlink_to("/etc"), os.mkfifo):
        make(raw / "odd")
        with pytest.raises(UsageError, match="odd: not packed"):
            signed(run, key)
        (raw / "odd").unlink()
    (run / "results.json").rename(run / "real.json")
    (run / "results.json").symlink_to("real.json")
    with pytest.raises(UsageError, match=r"results\.json: not packed"):
        signed(run, key)


def test_a_key_that_cannot_sign_is_one_line(run: Path, key: Path, tmp_path: Path) -> None:
    noise = tmp_path / "noise"
    noise.write_text("no key")
    noise.chmod(0o600)
    for wrong in (noise, tmp_path / "none", tmp_path):
        with pytest.raises(UsageError, match="--key") as refused:
            signed(run, wrong)
        assert "\n" not in str(refused.value)
    other = new_key(tmp_path, "swapped")
    other.with_name("swapped.pub").write_bytes(key.with_name("engineer.pub").read_bytes())
    with pytest.raises(UsageError, match="doesn't match private"):
        signed(run, other)
    assert not list(run.glob("*.zip*"))


# ---------------------------------------------------------------------------------------------------------- commands


def test_the_commands_say_it_by_their_exit_codes(
    run: Path, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("certificate", run, "--no-pdf") == 1
    assert "LAG-2: failed" in capsys.readouterr().out
    out = tmp_path / "b.zip"
    assert command("sign-off", run, "--key", key, "--output", out, "--no-pdf", "--anyway") == 0
    assert command("verify", out) == 0
    said = capsys.readouterr().out
    assert "integrity, not identity" in said and "NOT ACCEPTED" in said and "by the signer's clock" in said
    assert f"SHA-256: {hashlib.sha256(out.read_bytes()).hexdigest()}" in said
    assert command("verify", out, "--allowed-signers", allowed_by(key, tmp_path)) == 0
    said = capsys.readouterr().out
    assert "an allowed signer" in said and "Warning" not in said
    assert command("verify", repacked(out, lambda members: members.update({"report.html": b""}))) == 1
    assert "report.html: changed" in capsys.readouterr().out
    assert command("verify", out, "--allowed-signers", tmp_path / "none") == 2
    assert command("verify", run / "results.json") == 2
    assert command("sign-off", tmp_path / "none", "--key", key) == 2
    assert capsys.readouterr().err.count("\n") == 3


def test_a_run_that_is_not_accepted_is_signed_only_when_that_is_asked_for(
    run: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("sign-off", run, "--key", key, "--no-pdf") == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert "NOT ACCEPTED: LAG-2: failed" in said.err and "(and 4 more); --anyway signs it all the same" in said.err
    assert not (run / "certificate.html").exists() and not list(run.glob("*.zip"))
    assert command("sign-off", run, "--key", key, "--no-pdf", "--anyway") == 0
    assert "NOT ACCEPTED: certificate CHO-" in capsys.readouterr().out


def test_a_run_in_which_nothing_was_run_is_never_signed(
    key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dry = runs.results(runs.test("LAG-1", "skipped", "dry run: nothing was changed", measurements=[]))
    for number, results in enumerate((dry, runs.results())):
        folder = runs.saved(results, tmp_path / str(number))
        assert command("sign-off", folder, "--key", key, "--anyway") == 2
        assert "there is nothing to sign: no test was run" in capsys.readouterr().err
        assert [path.name for path in folder.iterdir()] == ["results.json"]
    (tmp_path / "none").mkdir()
    assert command("sign-off", tmp_path / "none", "--key", key, "--anyway") == 2
    assert "there is no results.json" in capsys.readouterr().err
    (tmp_path / "0" / "results.json").write_text("{", "utf-8")
    assert command("sign-off", tmp_path / "0", "--key", key, "--anyway") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_former_certificate_is_kept_and_one_line_says_where(
    run: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = run / "certificate.html"
    assert command("certificate", run, "--no-pdf", "--lab", "first") == 1
    assert "is kept" not in capsys.readouterr().out
    first = page.read_bytes()
    (run / "certificate.pdf").write_bytes(b"%PDF-first")
    assert command("certificate", run, "--no-pdf", "--lab", "second") == 1
    assert f"the former certificate is kept: {run / 'certificate.1.html'}\n" in capsys.readouterr().out
    assert (run / "certificate.1.html").read_bytes() == first
    assert (run / "certificate.1.pdf").read_bytes() == b"%PDF-first" and not (run / "certificate.pdf").exists()
    second = page.read_bytes()
    assert command("sign-off", run, "--key", key, "--no-pdf", "--anyway") == 0
    assert f"the former certificate is kept: {run / 'certificate.2.html'}\n" in capsys.readouterr().out
    assert (run / "certificate.2.html").read_bytes() == second
    now = datetime.now(timezone.utc)
    certificate.write(run, now=now, pdf=False)
    assert certificate.write(run, now=now, pdf=False).kept is None, "it says the same"


def test_about_is_only_text(run: Path, key: Path) -> None:
    made = signed(run, key)
    for content in (b"[]", b"{", b'{"run": "\\u001b[31m"}'):
        change = partial(dict.update, **{proof.ABOUT: content})
        found = verify(repacked(made.path, change))
        assert not found.good and "\x1b" not in str(found.about)


def test_checksums_are_those_of_sha256sum() -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    assert bundle.sums({"b/c": b"x", "a": b"x"}) == f"{digest}  a\n{digest}  b/c\n".encode()
