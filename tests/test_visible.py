"""Text of unknown origin steers no terminal, breaks no line and shows no password."""

from __future__ import annotations

import logging
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from collm.visible import ShownFormatter, shown, spreadsheet_cell, visible, without_passwords, without_secrets


@given(st.text(alphabet=st.characters(codec=None)))
def test_no_control_character_is_left(text: str) -> None:
    out = visible(text)
    assert not [c for c in out if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") and c not in "\n\t"]
    assert len(visible(text, keep="").splitlines()) <= 1
    out.encode()


def test_what_is_harmless_stays() -> None:
    text = "Amélie, 千と千尋の神隠し (2001) 👩‍👩‍👧\n\tx"
    assert visible(text) == text
    assert visible("\x1b]0;x\x07\u2028\u202e\ud800") == "\\x1b]0;x\\x07\\u2028\\u202e\\ud800"
    assert visible("a\nb", keep="") == "a\\nb"


PASSWORDS = st.text(alphabet="abzXYZ019@:/%!$&*()+,;=~_-.", min_size=4)


@given(PASSWORDS, st.sampled_from(["", "see ", "cannot open '"]), st.sampled_from(["", " now", "' (refused)"]))
def test_no_password_of_an_address_is_shown(password: str, before: str, after: str) -> None:
    text = f"{before}postgresql://me:{password}@host/base{after}"
    assert without_passwords(text) == f"{before}postgresql://me:***@host/base{after}"


@given(st.text(alphabet="abc@/", min_size=1), PASSWORDS)
def test_users_may_hold_signs_too(user: str, password: str) -> None:
    assume(password not in user + "://@host")
    assert password not in without_passwords(f"https://{user}:{password}@host")


def test_other_text_stays() -> None:
    for text in ("no address", "http://host:80/path", "a@b.c: d", "journal:/a/b@c"):
        assert without_passwords(text) == text
    assert without_passwords("postgresql://h/d?user=me&password=se:c@ret&x=1").startswith("postgresql://h/d?user=me&")
    assert "se:c@ret" not in without_passwords("postgresql://h/d?user=me&password=se:c@ret&x=1")
    assert shown("\x1b https://a:b@c") == "\\x1b https://a:***@c"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://ghp_abc@host/x", "https://***@host/x"),
        ("see s3://KEY@bucket/x.", "see s3://***@bucket/x."),
        ("https://h/x?a=1&X-Amz-Signature=0f&b=2", "https://h/x?a=1&X-Amz-Signature=***&b=2"),
        ("'https://h/x?access_token=abc' is", "'https://h/x?access_token=***' is"),
        ("https://h/x?sv=1&sig=a%2Fb", "https://h/x?sv=1&sig=***"),
        ("https://h/x?download=1&signed=2", "https://h/x?download=1&signed=2"),
        ("hf://datasets/me/logs@main/x.csv", "hf://datasets/me/logs@main/x.csv"),
        ("postgresql://me@host/base", "postgresql://me@host/base"),
    ],
)
def test_tokens_and_signatures_of_addresses_are_hidden(text: str, expected: str) -> None:
    assert without_passwords(text) == expected


@pytest.mark.parametrize("text", ["=1+2", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1"])
def test_a_formula_becomes_text(text: str) -> None:
    assert spreadsheet_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "mf", "-5", "+1.5e3", "a=b", "'quoted", "e-mail@x"])
def test_text_and_numbers_stay(text: str) -> None:
    assert spreadsheet_cell(text) == text


def test_log_lines_are_shown_text() -> None:
    record = logging.LogRecord("collm", logging.INFO, "f", 1, "from %s", ("https://a:b@c\x1b[8m",), None)
    assert ShownFormatter("%(message)s").format(record) == "from https://a:***@c\\x1b[8m"


@given(st.text(alphabet="abc@/", min_size=1), PASSWORDS)
def test_neither_user_nor_password_of_an_address_is_given_away(user: str, password: str) -> None:
    assert without_secrets(f"--set study.storage=postgresql://{user}:{password}@host/base").endswith("://***@host/base")


@pytest.mark.parametrize(
    ("text", "given_away"),
    [
        ("https://ghp_abc123@github.com/a/b.git", "https://***@github.com/a/b.git"),
        ("encoder.api_key=abc", "encoder.api_key=***"),
        ("encoder.API-Key='a b'", "encoder.API-Key=***"),
        ("encoder={name: x, hf_token: abc, size: 3}", "encoder={name: x, hf_token: ***, size: 3}"),
        ('{"password": "a b"}', '{"password": ***}'),
        ("encoder.secret=abc, de f\nghi", "encoder.secret=***"),
        ("a token: abc,def", "a token: ***,def"),
        ("tuning.micro_batch_tokens=4096", "tuning.micro_batch_tokens=4096"),
        ("mapping.tokens=2", "mapping.tokens=2"),
        ("https://host/a@b", "https://host/a@b"),
        ("git@github.com:a/b.git", "git@github.com:a/b.git"),
    ],
)
def test_secret_fields_are_not_given_away(text: str, given_away: str) -> None:
    assert without_secrets(text) == given_away
