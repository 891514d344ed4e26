"""Manifests as YAML for kubectl, kustomize and people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

# kubectl reads more plain words as numbers and truth values than PyYAML does: 1e3, 0o17, y.
_NOT_PLAIN = re.compile(r"[-+]?\.?[0-9][0-9a-fxob_.+:-]*|y|n|\.inf|\.nan", re.IGNORECASE)


def to_yaml(objects: Sequence[dict[str, Any]]) -> str:
    """One document an object."""
    return yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, width=120)


class _Dumper(yaml.SafeDumper):
    """Without anchors: people read it."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _string(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if _NOT_PLAIN.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _string)
