"""Finds `zarr` and its modules here, for `import zarr` and for `importlib.metadata`."""

import importlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from zarr_core.compat.names import API_LEVEL, NAMES


def _pairs(names: str) -> Iterator[tuple[str, str]]:
    for word in names.split():
        name, _, other = word.partition("=")
        yield name, other or name


def _public(module: ModuleType) -> list[str]:
    found = getattr(module, "__all__", None)
    return [name for name in (dir(module) if found is None else found) if name[0] != "_"]


class _Module(ModuleType):
    """A module whose names are looked up when they are first used."""

    def __init__(self, name: str) -> None:
        super().__init__(name, f"`{name}`, as zarr_core has it.")
        places = NAMES[name]
        self._all_of = [place for place, names in places.items() if names == "*"]
        self._where = {
            shown: (place, other)
            for place, names in places.items()
            if names != "*"
            for shown, other in _pairs(names)
        }
        self.__file__ = __file__
        if name == "zarr":
            self.__version__ = API_LEVEL

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if f"{self.__name__}.{name}" in NAMES:
            return importlib.import_module(f"{self.__name__}.{name}")
        if name in self._where:
            place, other = self._where[name]
            value = getattr(importlib.import_module(place), other)
        else:
            for place in self._all_of:
                module = importlib.import_module(place)
                if name in _public(module):
                    value = getattr(module, name)
                    break
            else:
                raise AttributeError(
                    f"module {self.__name__!r} has no attribute {name!r}: zarr_core is in the place "
                    "of zarr-python here"
                )
        setattr(self, name, value)
        return value

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, (self.__name__,)

    def __dir__(self) -> list[str]:
        return sorted({*vars(self), *self.__all__})

    @property
    def __all__(self) -> list[str]:
        names = [name for name in self._where if not name.startswith("_")]
        for place in self._all_of:
            names += _public(importlib.import_module(place))
        return names


class Finder(MetaPathFinder, Loader):
    """Finds the modules of the table."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to make a module of the table."""
        if fullname in NAMES:
            is_package = any(name.startswith(f"{fullname}.") for name in NAMES)
            return ModuleSpec(fullname, self, origin="zarr_core", is_package=is_package)
        if fullname.partition(".")[0] == "zarr":
            raise ModuleNotFoundError(
                f"No module named {fullname!r}: zarr_core is in the place of zarr-python here, and "
                "has nothing of that name",
                name=fullname,
            )
        return None

    def find_distributions(self, context: Any = None) -> Iterable[metadata.Distribution]:
        """Yield the distribution whose version is the one that these names are of."""
        if getattr(context, "name", None) == "zarr":
            yield _Distribution()

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return a module of the table."""
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: names are looked up when they are used."""


class _Distribution(metadata.Distribution):
    """What `importlib.metadata` says of zarr."""

    def read_text(self, filename: str) -> str | None:
        """Return the file that has the version, of those that a distribution has."""
        if filename == "METADATA":
            return f"Metadata-Version: 2.1\nName: zarr\nVersion: {API_LEVEL}\n"
        return None

    def locate_file(self, path: Any) -> Path:
        """Return where a file of the distribution would be."""
        return Path(__file__).parent / str(path)


def installed() -> bool:
    """Return whether `import zarr` leads here."""
    return any(isinstance(finder, Finder) for finder in sys.meta_path)
