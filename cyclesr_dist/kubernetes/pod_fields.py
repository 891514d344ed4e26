"""Whether a patch of pods has only fields that pods have, of the types they have there.

The Kubernetes client knows them. What a field allows beyond its type, the cluster says when it is asked.
"""

from __future__ import annotations

import difflib
import re
from typing import Any

from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.runtime.extras import install_hint

_POD = "V1PodSpec"
_QUANTITIES = ("limits", "requests", "overhead", "sizeLimit")
_LIST = re.compile(r"list\[(.+)\]")
_DICT = re.compile(r"dict[\[(]str, (.+)[\])]")
_SCALARS: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "bool": (bool,), "float": (int, float)}
_WORDS = {"str": "text (in quotes, where it looks like a number)", "int": "an integer", "bool": "true or false"}


def check_fields(patch: dict[str, Any], where: str) -> None:
    """Raise ConfigError naming the first field of a pod's spec that does not exist, or is of another type.

    Raises InputError without the Kubernetes client.
    """
    try:
        from kubernetes.client import models
    except ImportError as error:
        raise InputError(f"{where} needs the Kubernetes client: {install_hint('kubernetes')}") from error
    _check(patch, _POD, where, models)


def _check(value: Any, kind: str, where: str, models: Any) -> None:
    if value is None or kind == "object":
        return
    if items := _LIST.fullmatch(kind):
        if not isinstance(value, list):
            raise ConfigError(f"{where} = {value!r:.80}; allowed: a list")
        for i, item in enumerate(value):
            _check(item, items[1], f"{where}[{i}]", models)
    elif values := _DICT.fullmatch(kind):
        if not isinstance(value, dict):
            raise ConfigError(f"{where} = {value!r:.80}; allowed: a mapping")
        quantities = where.rpartition(".")[2] in _QUANTITIES
        for name, one in value.items():
            if not (quantities and type(one) in (int, float)):
                _check(one, values[1], f"{where}.{name}", models)
    elif kind in _SCALARS:
        # bool is an int to Python, and a number without quotes a quantity to Kubernetes.
        fits = isinstance(value, _SCALARS[kind]) and (kind == "bool" or not isinstance(value, bool))
        if not fits and not (where.endswith(_QUANTITIES) and type(value) in (int, float)):
            raise ConfigError(f"{where} = {value!r:.80}; allowed: {_WORDS.get(kind, 'a number')}")
    else:
        model = getattr(models, kind, None)
        if model is not None:
            _check_model(value, model, where, models)


def _check_model(value: Any, model: Any, where: str, models: Any) -> None:
    if not isinstance(value, dict):
        raise ConfigError(f"{where} = {value!r:.80}; allowed: a mapping")
    kinds = {name: model.openapi_types[attribute] for attribute, name in model.attribute_map.items()}
    for name, one in value.items():
        if name.startswith("$"):
            raise ConfigError(f"{where}.{name}: directives are not known; allowed: null takes a field away")
        if name not in kinds:
            nearest = difflib.get_close_matches(name, kinds, 1)
            hint = f"nearest: {nearest[0]}" if nearest else f"allowed: {', '.join(kinds)}"
            raise ConfigError(f"{where}.{name} is no field there; {hint}")
        _check(one, kinds[name], f"{where}.{name}", models)
