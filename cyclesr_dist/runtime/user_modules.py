"""Python modules of the user's own, such as the one that `nets.sr.module` or `system` names.

Console scripts and launchers do not look for modules in the working directory, `python -m` does. Here it is looked at
behind everything that is installed: a file of the user's called yaml.py takes no library's place.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, TypeVar

from cyclesr_dist.errors import ConfigError, CycleSRError

T = TypeVar("T")

FOLDER_VARIABLE = "CYCLESR_MODULES_FOLDER"
"""Environment variable: the user's working directory, for processes that run in another one (trials of a search)."""


def import_user_module(key: str, module: str) -> ModuleType:
    """The module of that name: an installed one, or a file or package in the working directory.

    Raises ConfigError naming `key` when it is not there, with the places looked at, or cannot be imported.
    """
    folders = list(dict.fromkeys(filter(None, (os.environ.get(FOLDER_VARIABLE), os.getcwd()))))
    sys.path.extend(folder for folder in folders if folder not in sys.path)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise ConfigError(f"{key}: {module} cannot be imported ({error})") from error  # what it needs is missing
        raise ConfigError(
            f"{key}: {module} cannot be imported ({error}); looked among the installed packages, in PYTHONPATH and in "
            f"{' and '.join(folders)}"
        ) from error
    except Exception as error:  # importing runs the module: it can raise anything
        raise ConfigError(f"{key}: {module} cannot be imported ({type(error).__name__}: {error})") from error


def find_object(key: str, name: str, form: str = "package.module:Name") -> Any:
    """What `package.module:Object` names, for the configuration's `key`.

    Importing runs the module's code: names from files of others need the user's word first. Raises ConfigError naming
    `key` as `import_user_module` does, and where the module has no such name.
    """
    path, colon, attribute = name.partition(":")
    if not colon or not path or not attribute.isidentifier():
        raise ConfigError(f"{key} = {name!r}; allowed: {form}")
    module = import_user_module(f"{key} = {name!r}", path)
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        raise ConfigError(f"{key} = {name!r} cannot be imported ({error})") from error


def ours_or_yours(
    key: str, name: str, ours: Mapping[str, T], form: str, wanted: str, fits: type | Callable[[Any], bool]
) -> T:
    """What a word of the configuration's `key` stands for: one of `ours`, or `package.module:Name` of the user's own.

    Raises ConfigError naming `key` as `find_object` does, and for what does not fit: what is no instance of the type
    `fits`, or what that function refuses. `wanted` says in words what fits.
    """
    if name in ours:
        return ours[name]
    found: T = find_object(key, name, form)
    if not (isinstance(found, fits) if isinstance(fits, type) else fits(found)):
        raise ConfigError(f"{key} = {name} is {found!r:.80}; allowed: {', '.join((wanted, *ours))}")
    return found


def call_of_user(named: str, call: Callable[[], T]) -> T:
    """What `call` gives, which runs code of the user's own. Raises ConfigError, beginning with `named`, for whatever it
    raises: also SystemExit, which would end a run as if all were well."""
    try:
        return call()
    except CycleSRError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{named} fails ({type(error).__name__}: {' '.join(str(error).split())[:300]})") from error
