"""The address of a cluster is looked at before Ray, which would try for minutes."""

from __future__ import annotations

import socket

import pytest

from cyclesr_dist.errors import InputError
from cyclesr_dist.search.cluster import look_at


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nobody_listens_is_named(scheme: str) -> None:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))  # bound and not listening
        address = f"{scheme}127.0.0.1:{place.getsockname()[1]}"
        with pytest.raises(InputError, match=f"--address {address}: no Ray cluster answers: .*refused"):
            look_at(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_an_address_where_someone_listens_is_left_to_ray(host: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as place:
        try:
            place.bind((host.strip("[]"), 0))
        except OSError as error:
            pytest.skip(f"{host}: {error}")
        place.listen()
        look_at(f"{host}:{place.getsockname()[1]}")


@pytest.mark.parametrize("address", ["auto", "anyscale://cluster"])
def test_what_names_no_port_is_left_to_ray(address: str) -> None:
    look_at(address)
