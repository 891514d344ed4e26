"""Credentials out of whatever is shown or written: passwords and signatures in URLs, tokens of the environment.

Imports nothing of the package: every error of ours goes through here (errors.py).
"""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple

HIDDEN = "***"
"""Stands where a secret was."""
_HARMLESS = frozenset(
    ("endpoint_override", "scheme", "region", "allow_bucket_creation", "allow_bucket_deletion", "versionid", "version")
)
"""Names in queries whose values say where, not who. Every other value is hidden: providers name theirs as they like."""
_TOKEN_USERS = ("http", "https", "ws", "wss")
"""Schemes in which a name alone before @ is a token. Elsewhere it is an account or, in Azure's abfs, a container."""

_CHARACTER = r"(?:[^\s\"'<>`]|[\"'`](?=[\w%@/&=+]))"  # a quote that goes on is part of what it seems to end
_SCHEME = r"[A-Za-z0-9+.-]+://"
_URL = re.compile(rf"(?<![A-Za-z0-9+.-]){_SCHEME}(?:(?!(?:[,;|]|::){_SCHEME}){_CHARACTER})*")
_LOGIN = re.compile(  # without a scheme, or behind what pathlib makes of http://
    r"(?:(?<=\w:/)|(?<![\w/@.%:+~-]))[\w.%+~-]*:[^\s/@]+@(?=[\w\[])|(?<=http:/|ttps:/)[^\s/@]+@(?=[\w\[])"
)
_QUERY = re.compile(rf"(?<=\?)[\w.%~+-]+={_CHARACTER}*")
_HEADER = re.compile(
    r"(?i)((?:proxy-)?authorization['\"]?\s*[:=]\s*['\"]?)(?:(?:basic|bearer|token|digest)\s+)?[^\s'\",)}]+"
)
_END = re.compile(r"[)\]},.;:!]*$")
_SECRET_VARIABLE = re.compile(r"(PASSWORD|TOKEN|SECRET|SECRET_ACCESS_KEY|API_KEY|ACCOUNT_KEY|CONNECTION_STRING)$")
_LAST_PORT = 65535
_SHORTEST = 8  # below that a value may be any word


class _Parts(NamedTuple):
    scheme: str
    login: str
    place: str
    query: str | None
    fragment: bool


def has_login(url: str) -> bool:
    """Whether a URL has a password, or a token in its place, before its host."""
    return "://" in url and bool(_split(url).login)


def redact(text: str) -> str:
    """A text of any kind without the credentials in its URLs and headers, and without those of the environment.

    Twice is the same as once.
    """
    if not any(mark in text for mark in ("://", "@", "?", "uthorization", "UTHORIZATION")):
        return _without_variables(text)
    text = _URL.sub(_in_text, text)
    text = _LOGIN.sub(f"{HIDDEN}@", text)
    text = _QUERY.sub(lambda found: _query(found[0]) + _end(found[0]), text)
    text = _HEADER.sub(rf"\1{HIDDEN}", text)
    return _without_variables(text)


def redact_url(url: str) -> str:
    """The same of one URL, which may hold blanks; a path stays as it is."""
    return _joined(_split(url)) if "://" in url else url


def redacted(value: Any) -> Any:
    """The same of plain values: URLs in dicts, lists and strings."""
    if isinstance(value, dict):
        return {name: redacted(of) for name, of in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(redacted(item) for item in value)
    return redact_url(value) if isinstance(value, str) else value


def _in_text(found: re.Match[str]) -> str:
    url = found[0]
    end = _end(url)
    return _joined(_split(url[: len(url) - len(end)])) + end


def _end(text: str) -> str:
    """Of the sentence around it. A bracket that was opened in the text is its own."""
    found = _END.search(text)
    end = found[0] if found else ""
    return end.rpartition("]")[2] if text.count("[") == text.count("]") else end


def _split(url: str) -> _Parts:
    """A password with / ? # or @ in it, which no parser takes for one, is found, too."""
    scheme, _, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    login = ""
    if "@" in authority:
        name = authority.rpartition("@")[0]
        if ":" in name or scheme.lower() in _TOKEN_USERS:
            login = rest.rpartition("@")[0]
    elif _bad_port(authority, rest[len(authority) :]):
        login = rest.rpartition("@")[0]
        if not login:  # of a URL cut short before its host
            return _Parts(scheme, "", HIDDEN, None, fragment=False)
    rest = rest[len(login) + 1 :] if login else rest
    rest, sharp, _ = rest.partition("#")
    place, mark, query = rest.partition("?")
    return _Parts(scheme, login, place, query if mark else None, bool(sharp))


def _bad_port(authority: str, more: str) -> bool:
    """Whether what stands behind a colon is no port, and so may be the beginning of a password; `more` follows it."""
    host, colon, port = authority.rpartition(":")
    if not colon or not host or re.fullmatch(r"\[.*\]", authority):
        return False
    if ":" in host and not re.fullmatch(r"\[.*\]|[0-9A-Fa-f:.]*", host):
        return True
    return "@" in more if not port else not (port.isdecimal() and int(port[:6]) <= _LAST_PORT)


def _joined(parts: _Parts) -> str:
    login = f"{HIDDEN}@" if parts.login else ""
    query = "" if parts.query is None else f"?{_query(parts.query)}"
    fragment = f"#{HIDDEN}" if parts.fragment and not query else ""
    return f"{parts.scheme}://{login}{parts.place}{query}{fragment}"


def _query(query: str) -> str:
    return "&".join(_pair(pair) for pair in query.split("&"))


def _pair(pair: str) -> str:
    name, _, value = pair.partition("=")
    if not pair or name.lower() in _HARMLESS:
        return pair
    return f"{name}={HIDDEN}" if value.strip("=") and len(name) <= 40 else HIDDEN


def _without_variables(text: str) -> str:
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and value in text and _SECRET_VARIABLE.search(name):
            text = text.replace(value, HIDDEN)
    return text
