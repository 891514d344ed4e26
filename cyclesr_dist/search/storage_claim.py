"""Whose a search's experiments in `storage` are: a claim beside them, through the file system that Tune writes with.

Run folders of one name on two machines would be one experiment in a storage that they share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from cyclesr_dist.data.connection import remote_failure
from cyclesr_dist.data.source import below, shown
from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.lease import Lease, LocalPlace, Place

T = TypeVar("T")


@contextmanager
def claimed(storage: str, name: str, when_lost: Callable[[], None]) -> Iterator[Lease]:
    """Have the search `name` in `storage` while the block runs. Raises as `Lease.take`."""
    lease = Lease(_place(storage, f".lease-{name}"), f"storage {shown(below(storage, name))}", when_lost)
    lease.take()
    try:
        yield lease
    finally:
        lease.release()


def _place(storage: str, folder: str) -> Place:
    if "://" not in storage:
        return LocalPlace(Path(storage).resolve(), folder)
    from pyarrow.fs import FileSystem, LocalFileSystem

    try:
        files, path = FileSystem.from_uri(storage)
    except ValueError as error:
        raise InputError(f"storage = {shown(storage)}: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise remote_failure(f"storage = {shown(storage)}: cannot be reached", error) from error
    if isinstance(files, LocalFileSystem):
        return LocalPlace(Path(path), folder)
    return _RemotePlace(files, f"{path.rstrip('/')}/{folder}", shown(below(storage, folder)))


class _RemotePlace:
    """Claims in a folder of one of pyarrow's file systems."""

    poll_seconds = 1.0
    local = False

    def __init__(self, files: Any, path: str, url: str) -> None:
        self.files, self.path, self.url = files, path, url

    def names(self) -> list[str]:
        from pyarrow.fs import FileSelector

        wanted = FileSelector(self.path, allow_not_found=True)
        found = self._done("", "listed", lambda: self.files.get_file_info(wanted))
        return [info.base_name for info in found if info.base_name.endswith(".json")]

    def read(self, name: str) -> str | None:
        def content() -> str | None:
            try:
                with self.files.open_input_stream(f"{self.path}/{name}") as stream:
                    return bytes(stream.read()).decode(errors="replace")
            except FileNotFoundError:
                return None

        return self._done(name, "read", content)

    def write(self, name: str, text: str) -> None:
        def put() -> None:
            self.files.create_dir(self.path)  # not all kinds make it by themselves
            with self.files.open_output_stream(f"{self.path}/{name}") as stream:
                stream.write(text.encode())

        self._done(name, "written", put)

    def remove(self, name: str) -> None:
        def gone() -> None:
            try:
                self.files.delete_file(f"{self.path}/{name}")
            except FileNotFoundError:
                return

        self._done(name, "removed", gone)

    def _done(self, name: str, what: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except OSError as error:  # its own patience is over
            raise remote_failure(f"{self.url}/{name}: cannot be {what}", error) from error
