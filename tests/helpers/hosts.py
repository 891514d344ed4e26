"""Hosts for tests of multi-node runs: network namespaces with a bridge between them, real sockets, links to cut."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import pytest

_networks = count(1)  # what was taken down may be there for a while yet


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@dataclass(frozen=True)
class Host:
    namespace: str
    address: str
    link: str
    """The host's end at the bridge."""

    def command(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.namespace, *command]

    def cut(self) -> None:
        """Pull the plug: nothing gets through any more, and no connection is closed."""
        _ip("link", "set", self.link, "down")

    def plug_in(self) -> None:
        _ip("link", "set", self.link, "up")


@contextmanager
def hosts(number: int) -> Iterator[list[Host]]:
    """Skips the test where namespaces are not allowed."""
    tag = f"c{os.getpid() % 100000}{next(_networks)}"  # interfaces have names of 15 characters at most
    made: list[Host] = []
    try:
        _ip("link", "add", f"{tag}b", "type", "bridge")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', error)}")
    try:
        _ip("link", "set", f"{tag}b", "up")
        for i in range(number):
            host = Host(f"{tag}n{i}", f"10.213.7.{i + 1}", f"{tag}v{i}")
            _ip("netns", "add", host.namespace)
            made.append(host)
            _ip("link", "add", host.link, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
            _ip("link", "set", host.link, "master", f"{tag}b", "up")
            _ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
            _ip("-n", host.namespace, "link", "set", "eth0", "up")
            _ip("-n", host.namespace, "link", "set", "lo", "up")
        yield made
    finally:
        for host in made:
            subprocess.run(["ip", "netns", "del", host.namespace], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", f"{tag}b"], check=False, capture_output=True)
