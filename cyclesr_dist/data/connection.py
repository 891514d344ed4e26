"""A session with the storage behind a URL, by way of fsspec, renewed after a failure, and what failures mean there."""

from __future__ import annotations

import time
from typing import Any

import fsspec
from fsspec.asyn import AsyncFileSystem

from cyclesr_dist.config.credentials import where_instead
from cyclesr_dist.data.source import below
from cyclesr_dist.errors import InputError, UnreachableError
from cyclesr_dist.runtime.descriptors import close_kept, most_kept_open
from cyclesr_dist.runtime.extras import install_hint
from cyclesr_dist.runtime.passing import may_pass_behind_a_url, refused, wait_seconds
from cyclesr_dist.runtime.redact import has_login

_STALL_SECONDS = 30.0  # a server that sends nothing for so long has failed
_EXTRAS = {"s3": "s3", "s3a": "s3"}
_HTTP = ("http", "https")


class Connection:
    """fsspec's file system of a URL. `fs` is another one after `renew`."""

    def __init__(self, url: str) -> None:
        """Raises InputError for an unknown or uninstalled protocol."""
        self.url = url.rstrip("/")
        self.fs, self.root = open_filesystem(self.url)

    @property
    def is_http(self) -> bool:
        return self.url.split("://", 1)[0] in _HTTP

    def path(self, name: str) -> str:
        """Of a file below the URL, for `fs`."""
        return below(self.root, name)

    def renew(self, attempt: int) -> None:
        """Before attempt 1, 2, ... after a failure: wait, then begin a session that reads credentials anew and has no
        broken connections."""
        time.sleep(wait_seconds(attempt))
        close_kept()  # the failure may have been a lack of descriptors
        self.fs, self.root = open_filesystem(self.url, anew=True)


def open_filesystem(url: str, anew: bool = False) -> tuple[Any, str]:
    """fsspec's file system of `url` and the path in it. fsspec keeps one for each protocol, unless it is to be made
    `anew`. Raises InputError for an unknown or uninstalled protocol, and for a password in the URL."""
    protocol = url.split("://", 1)[0]
    if has_login(url):
        raise InputError(f"{url}: has a password in it; leave it out and put it into {where_instead(url)}")
    options: dict[str, Any] = {"skip_instance_cache": True} if anew else {}
    if protocol in _HTTP:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_STALL_SECONDS, sock_read=_STALL_SECONDS)
        # A compressed answer has other places than the file.
        headers = {"Accept-Encoding": "identity"}
        options["client_kwargs"] = {"timeout": timeout, "headers": headers, "trust_env": True}  # NETRC, HTTPS_PROXY
    if protocol == "file":
        options["auto_mkdir"] = True  # as every other place of files does by itself
    try:
        fs, root = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        hint = install_hint(extra) if extra else str(error)
        raise InputError(f"{url}: reading {protocol}:// needs a package that is not installed: {hint}") from error
    except ValueError as error:
        raise InputError(f"{url}: is not a URL that can be read ({error})") from error
    if isinstance(fs, AsyncFileSystem):
        fs.batch_size = most_kept_open()  # its requests at a time, each with a socket
    return fs, str(root).rstrip("/")


def remote_failure(text: str, error: BaseException) -> InputError:
    """What to raise, beginning with `text`: InputError for what does not pass, UnreachableError for what may."""
    first = str(error).splitlines()[0] if str(error) else ""
    reason = f"{type(error).__name__}: {first}" if first else type(error).__name__
    if not may_pass_behind_a_url(error):
        return InputError(f"{text} ({reason})")
    hint = "; if this lasts, check the credentials" if refused(error) else ""
    return UnreachableError(f"{text} ({reason}){hint}")
