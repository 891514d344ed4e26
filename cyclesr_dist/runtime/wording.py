"""Numbers with their nouns, for messages."""

from __future__ import annotations


def counted(count: int, one: str) -> str:
    """`1 patch`, `2 patches`."""
    return f"{count:,} {one}" if count == 1 else f"{count:,} {one}{'es' if one.endswith('ch') else 's'}"
