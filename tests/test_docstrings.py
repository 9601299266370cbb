"""Every public function, class and method that a user calls has an example, and the examples run."""

import doctest
import importlib
import importlib.util
import inspect
import itertools
import logging
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_core
from zarr_core import codecs, config, errors, storage
from zarr_core.array.batch import Batch
from zarr_core.codecs import registry
from zarr_core.hierarchy.node import Attributes

OF_ZARR_PYTHON = {zarr_core.AsyncArray, zarr_core.AsyncGroup}  # `Array` and `Group`, awaited
CONTRACTS = {  # protocols, tuples, and names that pass for those of zarr-python
    *(storage.OpenValue, storage.ValueSnapshot, storage.Request, storage.Result),
    *(codecs.Endian, codecs.BloscCname, codecs.BloscShuffle, codecs.ShardingCodecIndexLocation),
}
OF_DEVELOPERS = {  # what who writes a store or codec calls, or has called
    *(
        "bind",
        "blame",
        "configured",
        "resolve",
        "shown",
        "prune",
        "links",
        "open_writer",
        "unfinished",
        "before_change",
        "below",
        "key",
        "read",
        "write",
    ),
    *("from_metadata", "create_at", "open_at", "enable_gpu", "stamp", "delays", "run"),
}


def own_methods(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield the methods that a class of ours is the first to have."""
    contract = {storage.Store, storage.StorePath, codecs.Codec} - {cls}
    for name, value in vars(cls).items():
        if name.startswith("_") or name.endswith("_async") or name in OF_DEVELOPERS:
            continue
        if any(hasattr(above, name) for above in contract):
            continue  # said once, where the contract is
        if any(hasattr(above, name) for above in cls.__mro__[1:]):
            continue
        function = getattr(value, "__func__", value)
        if inspect.isfunction(function):
            yield f"{cls.__name__}.{name}", function


def what_users_call() -> Iterator[tuple[str, Any]]:
    for module in (zarr_core, storage, codecs):
        for name in module.__all__:
            found = getattr(module, name)
            if name.endswith("_async") or not (inspect.isroutine(found) or inspect.isclass(found)):
                continue
            if found in OF_ZARR_PYTHON | CONTRACTS:
                continue
            yield name, found
            if inspect.isclass(found):
                yield from own_methods(found)
    for cls in (Attributes, Batch, type(zarr_core.config)):
        yield cls.__name__, cls
        yield from own_methods(cls)


def test_what_users_call_has_an_example() -> None:
    named = dict(what_users_call())
    assert len(named) > 150
    without = [name for name, found in named.items() if ">>>" not in (found.__doc__ or "")]
    assert without == []


SECTION = re.compile(r"^(Parameters|Attributes|Returns|Yields|Raises|Examples)\n-+\n", re.MULTILINE)


def test_sections_hold_nothing_else() -> None:
    """Text between sections would be shown as one more parameter: it belongs before the first."""
    for name, found in what_users_call():
        _, *parts = SECTION.split(inspect.getdoc(found) or "")
        for title, part in zip(parts[::2], parts[1::2], strict=True):
            items = (
                [] if title in ("Examples", "Returns", "Yields") else part.strip("\n").splitlines()
            )
            for line, following in itertools.pairwise([*items, ""]):
                is_item = bool(line) and not line.startswith(" ")
                assert not is_item or following.startswith("    "), f"{name}: {line}"


def test_errors_say_when_they_are_raised() -> None:
    found = [name for name in errors.__all__ if not getattr(errors, name).__doc__]
    assert found == []


@pytest.fixture
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Examples register a codec and show messages of the library."""
    monkeypatch.setattr(registry, "_codecs", dict(registry._codecs))
    logger = logging.getLogger("zarr_core")
    level = logger.level
    yield
    logger.setLevel(level)
    config.reset()


@pytest.mark.usefixtures("_as_before")
def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"np": np, "zarr": zarr_core}
    failed = ran = 0
    for found in pkgutil.walk_packages(zarr_core.__path__, "zarr_core."):
        door = found.name.partition(".")[2]  # to a library that may be missing
        if door in ("icechunk", "xarray") and importlib.util.find_spec(door) is None:
            continue
        if found.name != "zarr_core.as_zarr":  # which takes zarr's place when it is imported
            module = importlib.import_module(found.name)
            result = doctest.testmod(module, extraglobs=names, optionflags=doctest.ELLIPSIS)
            failed, ran = failed + result.failed, ran + result.attempted
    assert failed == 0
    assert ran > 300


def test_the_reference_has_every_public_name() -> None:
    pages = Path(__file__).parent.parent / "docs" / "reference"
    listed = {
        line.split()[-1].rpartition(".")[2]
        for page in pages.glob("*.rst")
        for line in page.read_text("utf-8").splitlines()
        if line.startswith(".. auto")
    }
    names = {n for module in (zarr_core, storage, codecs) for n in module.__all__}
    modules = {"codecs", "storage", "errors", "dtype", "registry", "types", "config"}
    assert {n for n in names - modules if not n.endswith(("_async", "__"))} <= listed
