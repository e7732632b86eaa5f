"""Text of unknown origin made harmless for terminals, lines and readers: control characters shown, passwords hidden."""

from __future__ import annotations

import logging
import re

# Control characters, line ends that only Unicode knows, marks that turn the reading direction, halves of surrogates.
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_PASSWORD = re.compile(r"(://[^\s:]*):\S+@")
_SECRET_OPTION = re.compile(r"((?:password|sslpassword|passfile)=)[^&\s]*", re.IGNORECASE)
_LOGIN = re.compile(r"(://)(?:\S*:\*\*\*|[^\s/@]+)@")
_SECRET_NAME = r"(?:password|passwd|passphrase|secret|token|credentials?|(?:api|access)[_-]?key)"
_SECRET_WORD = re.compile(rf"([\w.-]*{_SECRET_NAME}=).+", re.IGNORECASE | re.DOTALL)
_SECRET = re.compile(rf"({_SECRET_NAME}[\"']?\s*[=:]\s*)(?:\"[^\"]*\"|'[^']*'|[^\s,}}&]+)", re.IGNORECASE)
# Names of what a query of an address keeps secret: keys, tokens, signatures of signed addresses.
SECRET_NAME = re.compile(
    r"(token|secret|passw|pwd|credential|signature|auth|jwt|api.?key|access.?key|^key$|^sig$|^x-(amz|goog)-)",
    re.IGNORECASE,
)
_QUERY_VALUE = re.compile(r"([?&]([^=&#\s]+)=)[^&#\s'\")]+")
# Web servers and stores take a token as the user's name.
_USER = re.compile(r"((?:https?|s3|gs|az|hf)://)[^/\s:@]+@", re.IGNORECASE)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def visible(text: str, *, keep: str = "\n\t") -> str:
    """Returns a text whose control characters are written out, ESC as backslash x1b, so that none steers a terminal.

    Args:
        text: Any text.
        keep: Control characters that stay.
    """
    return _HIDDEN.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)


def without_passwords(text: str) -> str:
    """Returns a text with the passwords, tokens and keys of any address in it replaced by `***`."""
    text = _SECRET_OPTION.sub(r"\1***", _USER.sub(r"\1***@", _PASSWORD.sub(r"\1:***@", text)))
    return _QUERY_VALUE.sub(lambda found: f"{found[1]}***" if SECRET_NAME.search(found[2]) else found[0], text)


def without_secrets(text: str) -> str:
    """Returns a text that may be given away: neither passwords and logins of addresses, nor values of secret fields.

    Logins are what comes before the `@` of an address, where tokens appear too. Secret fields have names that end in
    `password`, `secret`, `token`, `api_key` and the like, before `=` or `:`.
    """
    if word := _SECRET_WORD.fullmatch(text):
        return f"{word[1]}***"
    return _SECRET.sub(r"\1***", _LOGIN.sub(r"\1***@", without_passwords(text)))


def shown(text: str) -> str:
    """Returns what a message may show: no control characters but line ends and tabs, no passwords."""
    return visible(without_passwords(text))


def spreadsheet_cell(text: str) -> str:
    """Returns a text that a spreadsheet does not take for a formula: a `'` comes before one that it would.

    Numbers stay numbers.
    """
    if not text.lstrip(" ").startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


class ShownFormatter(logging.Formatter):
    """Formats log lines as `shown` text."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line."""
        return shown(super().format(record))


def _escaped(character: str) -> str:
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    code = ord(character)
    return named or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
