"""Who may read and push metrics: TLS files of the configuration, tokens and passwords of the environment."""

from __future__ import annotations

import base64
import os
import re
import ssl
from pathlib import Path

from cyclesr_dist.config.credentials import METRICS_TOKEN, PUSH_PASSWORD, PUSH_TOKEN, PUSH_USER
from cyclesr_dist.config.schema import Listening, Telemetry
from cyclesr_dist.errors import InputError


def check_endpoint(telemetry: Listening) -> None:
    """Raise InputError for files and variables of the environment that an endpoint or a pusher could not use."""
    if telemetry.port:
        tls_context(telemetry)
        metrics_token()
    if isinstance(telemetry, Telemetry) and telemetry.push_gateway:
        push_headers()


def tls_context(telemetry: Listening) -> ssl.SSLContext | None:
    """Of the server, None without a certificate. Raises InputError for files that cannot be used."""
    if not telemetry.tls_certificate:
        return None
    files = {"tls_certificate": telemetry.tls_certificate, "tls_key": telemetry.tls_key or telemetry.tls_certificate}
    for name, file in files.items():
        try:
            Path(file).read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"telemetry.{name} = {file}: cannot be read ({reason})") from error
    certificate, key = files.values()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except _EncryptedKeyError as error:
        raise InputError(f"telemetry.tls_key = {key}: is encrypted; allowed: a key without a password") from error
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(
            f"telemetry.tls_certificate = {certificate} and telemetry.tls_key = {key} do not fit each other, or are no "
            f"PEM files ({reason}); allowed: a certificate, with those between it and its CA, and its private key"
        ) from error
    return context


class _EncryptedKeyError(Exception):
    """OpenSSL wants a password."""


def _no_password() -> str:
    raise _EncryptedKeyError  # else OpenSSL would ask on the terminal


def metrics_token() -> str:
    """What scrapes must send; empty: nothing. Raises InputError for what fits into no header."""
    return _secret(METRICS_TOKEN)


def _secret(name: str) -> str:
    """An environment variable that goes into a header; empty where it is not set. Raises InputError."""
    value = os.environ.get(name, "")
    if not re.fullmatch(r"[\x21-\x7e]*", value):
        raise InputError(f"{name} of the environment has a blank, a line end or a letter beyond ASCII; allowed: none")
    return value


def push_headers() -> tuple[tuple[str, str], ...]:
    """What the push gateway is told of who pushes. Raises InputError when the environment contradicts itself."""
    user, password, token = os.environ.get(PUSH_USER, ""), os.environ.get(PUSH_PASSWORD, ""), _secret(PUSH_TOKEN)
    if token and (user or password):
        raise InputError(f"{PUSH_TOKEN} and {PUSH_USER} or {PUSH_PASSWORD} are both set; allowed: one way of the two")
    if bool(user) != bool(password):
        there, lacks = (PUSH_USER, PUSH_PASSWORD) if user else (PUSH_PASSWORD, PUSH_USER)
        raise InputError(f"{there} is set and {lacks} is not; the push gateway needs both")
    if ":" in user:
        raise InputError(f"{PUSH_USER} of the environment has a colon, which ends a name; allowed: a name without")
    if token:
        return (("Authorization", f"Bearer {token}"),)
    if user:
        return (("Authorization", f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"),)
    return ()
