"""Secrets do not get into what a run writes: they are masked while their values are known."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from urllib.parse import quote

import pytest

from channover.report.results import Results
from channover.report.signoff import redaction as secrets
from channover.report.signoff.masking import MASK, Masker
from tests.support import runs

SECRET = "hunter2/é'\"<&>+ \\x"
URL = "postgres://lab:" + quote("gr4nd&secret", safe="") + "@db.example/lab"
NUMBER = "90210457"


@pytest.fixture
def masker() -> Masker:
    found = Masker()
    found.learn(
        {"LAB_PASSWORD": SECRET, "LAB_DATABASE": URL, "LAB_TOKEN": NUMBER, "LAB_HOST": "bilbao-7", "PASSWORD": "x"}
    )
    return found


@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        f"assert 'x' == {SECRET!r}",
        json.dumps({"a": SECRET}),
        json.dumps({"a": SECRET}, ensure_ascii=False),
        f"http://x/?p={quote(SECRET, safe='')}&q={quote(SECRET, safe='').lower()}",
        base64.b64encode(SECRET.encode()).decode(),
        base64.b64encode(b"lab:" + SECRET.encode() + b"\n").decode(),
        base64.urlsafe_b64encode(b"user:" + SECRET.encode()).decode(),
        SECRET.encode().hex(),
        "'" + SECRET.replace("'", "'\"'\"'") + "'",
    ],
)
def test_a_secret_is_masked_however_it_is_written(masker: Masker, written: str) -> None:
    masked = masker.text(f"before {written} after")
    assert MASK in masked and masked.startswith("before ") and masked.endswith(" after")
    assert "hunter2" not in masked and base64.b64encode(b"hunter2")[2:8].decode() not in masked
    assert SECRET.encode().hex() not in masked


def test_passwords_of_urls_keys_tokens_and_numbers_are_masked(masker: Masker) -> None:
    assert masker.text(f"connecting to {URL}") == "connecting to postgres://lab:***@db.example/lab"
    assert "gr4nd" not in masker.text("password gr4nd&secret refused")
    assert masker.text("http://a:pw@h/ and ftp://:x@h, not http://h:80/a@b") == (
        "http://a:***@h/ and ftp://:***@h, not http://h:80/a@b"
    )
    key = "-----BEGIN OPENSSH " + "PRIVATE KEY-----\nb3BlbnNzaC1r\nZXktdjE\n-----END OPENSSH PRIVATE KEY-----"
    assert masker.text(f"a {key} b {key.partition('END')[0]}") == "a *** b ***"
    assert masker.text("AKIA" + "ABCDEFGHIJKLMNOP") == MASK
    assert masker.text(f"PIN {NUMBER}, not 1{NUMBER} or 0.{NUMBER}") == f"PIN ***, not 1{NUMBER} or 0.{NUMBER}"
    assert masker.text("bilbao-7 has x") == "bilbao-7 has x"


def test_a_secret_of_several_lines_is_masked_line_by_line() -> None:
    masker = Masker()
    masker.learn({"LAB_CREDENTIALS": "first line of a secret\nshort\nthe third line of it\n"})
    assert masker.text("E   first line of a secret\nE   the third line of it") == "E   ***\nE   ***"


def test_what_pytest_leaves_of_a_long_value_is_masked(masker: Masker) -> None:
    masker.learn({"LATE_TOKEN": "only-in-this-test"})
    assert masker.text("{'a': 'only-i...test'} and ...-in-this-test") == "{'a': '***...***'} and ...***"
    assert masker.text("only... the test") == "***... the test" and masker.text("on...st") == "on...st"


def test_a_secret_that_is_unset_or_changed_stays_one(masker: Masker) -> None:
    masker.learn({"LAB_PASSWORD": "another one"})
    masker.learn({})
    assert masker.text(f"{SECRET} and another one") == "*** and ***"


def test_data_keep_their_shape(masker: Masker) -> None:
    assert masker.data(f"x {SECRET}".encode()) == b"x ***"
    binary = b"\xd4\xc3\xb2\xa1 " + SECRET.encode() + b"\xff"
    masked = masker.data(binary)
    assert len(masked) == len(binary) and b"hunter2" not in masked
    samples = json.dumps({"bytes": int(NUMBER)}).encode()
    assert masker.data(samples, "a.json") == samples, "a count is no password"


def test_a_word_of_the_format_is_none_of_the_secret() -> None:
    masker = Masker()
    masker.learn({"LAB_PASSWORD": "passed", "LAB_TOKEN": "LAG-10"})
    found = masker.of(runs.results(runs.test("LAG-10", name="t::passed", reason="passed LAG-10")))
    assert found.tests[0].outcome == "passed" and found.tests[0].behaviour == "LAG-10"
    assert found.tests[0].reason == "*** ***" and found.tests[0].nodeid == found.run.planned[0].nodeid == "t::***"  # type: ignore[index]
    assert Results.from_json(found.to_json()) == found


def test_what_a_command_line_has_is_masked_and_then_signed(masker: Masker) -> None:
    words = ("pytest", "--db-password", "pw", "--api-token=ab", f"--url={URL}", "suites")
    found = masker.of(replace(runs.RUN, command=words))
    assert found.command[1:] == (
        "--db-password", MASK, f"--api-token={MASK}", "--url=postgres://lab:***@db.example/lab", "suites",
    )  # fmt: skip
    for command, reason in ((words, "command line"), (found.command, None)):
        text = runs.results(runs.test(), command=command).to_json().encode()
        said = secrets.find("results.json", text, {})
        assert said == reason or (reason and reason in str(said))
