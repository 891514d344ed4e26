"""Credentials come from the environment: what a configuration may not hold, and where it goes instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cyclesr_dist.errors import ConfigError
from cyclesr_dist.runtime.redact import HIDDEN, has_login, redact_url, redacted

PUSH_USER, PUSH_PASSWORD, PUSH_TOKEN = "CYCLESR_PUSH_USER", "CYCLESR_PUSH_PASSWORD", "CYCLESR_PUSH_TOKEN"
METRICS_TOKEN = "CYCLESR_METRICS_TOKEN"
_PUSH_GATEWAY = "telemetry.push_gateway"
_BY_SCHEME = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "s3a": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "http": "the file that NETRC names, else ~/.netrc",
    "https": "the file that NETRC names, else ~/.netrc",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS",
    "ray": "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN",
}


def where_instead(url: str, key: str = "") -> str:
    """The environment's place for what a URL has before its host."""
    if key == _PUSH_GATEWAY:
        return f"{PUSH_USER} and {PUSH_PASSWORD}, or {PUSH_TOKEN}"
    if key.startswith("cluster."):
        return "a Secret (cluster.s3_secret, cluster.env_secrets)"
    scheme = url.partition("://")[0].lower()
    return _BY_SCHEME.get(scheme, f"FSSPEC_{scheme.upper()}_USERNAME and FSSPEC_{scheme.upper()}_PASSWORD")


def check_credentials(content: Any) -> None:
    """Of plain values: raise ConfigError, naming the key, for a password in a URL, and for a URL that lost its secret.

    A query may hold a signature: such a URL is of use for a while. It is hidden wherever it is shown.
    """
    for key, text in _strings(content):
        if has_login(text) and HIDDEN not in text:
            raise ConfigError(
                f"{key} = {redact_url(text)!r} has a password in it; leave it out and put it into "
                f"{where_instead(text, key)}"
            )
        if "://" in text and HIDDEN in text:
            raise ConfigError(
                f"{key} = {text!r}: its secret was left out when this was written; give the whole URL again: {key}=URL"
            )


def refuse_signatures(content: Any, why: str) -> None:
    """Raise ConfigError, naming the key, for a signature or token in a URL's query as well. `why`: what is allowed."""
    check_credentials(content)
    for key, text in _strings(content):
        if redacted(text) != text:
            raise ConfigError(f"{key} = {redact_url(text)!r} has a signature or token in its query; allowed: {why}")


def _strings(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text with its key. An override, `key=value`, is taken for what it sets."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _strings(value, f"{key}.{name}".lstrip("."))
    elif isinstance(content, list | tuple):
        for i, item in enumerate(content):
            yield from _strings(item, f"{key}[{i}]")
    elif isinstance(content, str):
        name, equals, value = content.partition("=")
        is_override = equals and "://" in value and "://" not in name
        yield (f"{key}: {name.strip()}", value.strip()) if is_override else (key, content)
