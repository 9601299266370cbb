"""Every exception and warning of zarr_core, and `warn`, which gives the warnings.

Each error is also the builtin that a caller would catch, so that code written for zarr-python,
or for plain dictionaries and files, keeps working. Messages say what was asked and what was found.
"""

import sys
import warnings
from collections.abc import Iterable
from types import FrameType
from typing import Any, NoReturn

__all__ = [
    "ArrayIndexError",
    "ArrayNotFoundError",
    "BaseZarrError",
    "BoundsCheckError",
    "ChunkDecodeError",
    "ChunkEncodeError",
    "ChunkNotFoundError",
    "CodecError",
    "ConflictError",
    "ContainsArrayAndGroupError",
    "ContainsArrayError",
    "ContainsGroupError",
    "CopyError",
    "DataTypeValidationError",
    "GroupNotFoundError",
    "InvalidKeyError",
    "MemoryLimitError",
    "MetadataValidationError",
    "NegativeStepError",
    "NodeNotFoundError",
    "NodeTypeValidationError",
    "NotAGroupError",
    "NotAnArrayError",
    "OperationTimeoutError",
    "PickleCodecDisabledError",
    "ReadOnlyError",
    "StoppedError",
    "StoreError",
    "UnknownCodecError",
    "UnstableSpecificationWarning",
    "ValueChangedError",
    "VindexInvalidSelectionError",
    "ZarrDeprecationWarning",
    "ZarrFutureWarning",
    "ZarrRuntimeWarning",
    "ZarrUserWarning",
]


class BaseZarrError(ValueError):
    """Base of the errors about nodes, metadata and codecs.

    Errors about what is at a place of a store also take that store and a path, and then say it in
    words; what else is known comes after a colon.
    """

    _words = ""

    def __init__(self, *args: object) -> None:
        if len(args) > 1 and self._words:
            store, path, *known = args
            args = (": ".join([self._words.format(store, path), *map(str, known)]),)
        super().__init__(*args)


# --- nodes ---------------------------------------------------------------------------------------


class NodeNotFoundError(BaseZarrError, FileNotFoundError):
    """No node exists at a path of a store."""


class ArrayNotFoundError(NodeNotFoundError):
    """No array exists at a path of a store."""

    _words = "No array found in store {!r} at path {!r}"


class GroupNotFoundError(NodeNotFoundError):
    """No group exists at a path of a store."""

    _words = "No group found in store {!r} at path {!r}"


class ContainsArrayError(BaseZarrError, FileExistsError):
    """An array exists where something else was to be created."""

    _words = "An array exists in store {!r} at path {!r}"


class ContainsGroupError(BaseZarrError, FileExistsError):
    """A group exists where something else was to be created."""

    _words = "A group exists in store {!r} at path {!r}"


class NotAGroupError(GroupNotFoundError, ContainsArrayError):
    """A group was to be opened, and an array is there."""

    _words = ContainsArrayError._words


class ContainsArrayAndGroupError(BaseZarrError):
    """Format 2 documents of an array and of a group exist at one path."""


class CopyError(BaseZarrError, FileExistsError, RuntimeError):
    """Something exists where a copy was to be made."""


class ConflictError(BaseZarrError):
    """A stored document changed since this handle read it, in a way that cannot be merged."""


# --- metadata ------------------------------------------------------------------------------------


class MetadataValidationError(BaseZarrError, TypeError):
    """A metadata document, or a value meant for one, is not valid.

    Also a `TypeError`, as values of a wrong type (an attribute that JSON cannot express) are
    reported through it.
    """


class NodeTypeValidationError(MetadataValidationError):
    """A document describes another type of node than the one asked for."""


class NotAnArrayError(ArrayNotFoundError, NodeTypeValidationError, ContainsGroupError):
    """An array was to be opened, and a group is there."""

    _words = ContainsGroupError._words


class DataTypeValidationError(MetadataValidationError):
    """A data type is unknown, or its parameters are not valid."""


# --- codecs and chunks -----------------------------------------------------------------------------


class UnknownCodecError(BaseZarrError, KeyError):
    """A codec is not known here; the array can be opened, its data cannot be read or written."""

    def __str__(self) -> str:
        return ValueError.__str__(self)  # KeyError would show the message's repr


class PickleCodecDisabledError(BaseZarrError):
    """Data would have to be unpickled, which needs an explicit argument."""


class CodecError(BaseZarrError):
    """Encoded data is damaged, or data cannot be encoded as asked."""


class MemoryLimitError(BaseZarrError, MemoryError):
    """A result or a chunk needs more memory than the setting `memory.max_bytes`."""


class ChunkDecodeError(CodecError, OSError):
    """A stored chunk cannot be decoded. Names array, key, chunk coordinates, codec and store."""


class ChunkEncodeError(CodecError):
    """A chunk cannot be encoded. Names array, key, chunk coordinates, codec and store."""


class ChunkNotFoundError(BaseZarrError, KeyError):
    """A chunk is not stored and `read_missing_chunks` is off."""

    def __str__(self) -> str:
        return ValueError.__str__(self)


# --- stores --------------------------------------------------------------------------------------


class StoreError(OSError):
    """A store failed. Never used for a key that does not exist."""


class ValueChangedError(StoreError):
    """A value was replaced while parts of it were read; reading again gives the new value."""


class InvalidKeyError(ValueError):
    """A key that a store must not touch: absolute, with `..`, NUL or a backslash, or reserved."""


class ReadOnlyError(PermissionError, ValueError):
    """Something was to be written through a read-only store, view or handle."""


class OperationTimeoutError(TimeoutError):
    """A call did not end in time; the message says what was done until then."""


class StoppedError(RuntimeError):
    """A call was told to stop (its awaiting task was cancelled)."""


# --- selections ----------------------------------------------------------------------------------


class ArrayIndexError(IndexError):
    """A selection does not fit the array."""


class BoundsCheckError(ArrayIndexError):
    """An index is outside the array."""


class VindexInvalidSelectionError(ArrayIndexError):
    """A coordinate selection is neither integer arrays nor a mask."""


class NegativeStepError(ArrayIndexError):
    """Kept for code that catches it: zarr_core reads and writes negative steps."""


# --- warnings ------------------------------------------------------------------------------------


class ZarrFutureWarning(FutureWarning):
    """Something will change."""


class UnstableSpecificationWarning(ZarrFutureWarning):
    """Something without a stable specification is written; other readers may refuse it."""


class ZarrDeprecationWarning(DeprecationWarning):
    """Something should no longer be used."""


class ZarrRuntimeWarning(RuntimeWarning):
    """Something was asked for that has no effect."""


class ZarrUserWarning(UserWarning):
    """Something is probably not what the user wants."""


WARNINGS: dict[str, tuple[type[Warning], str]] = {
    "automatic shards": (
        ZarrUserWarning,
        "Automatic shard shape inference is experimental and may change without notice.",
    ),
    "compressor": (
        ZarrUserWarning,
        "The `compressor` argument is deprecated. Use `compressors` instead.",
    ),
    "consolidated v3": (
        ZarrUserWarning,
        (
            "Consolidated metadata is currently not part in the Zarr format 3 specification. It "
            "may not be supported by other zarr implementations."
        ),
    ),
    "enumeration": (ZarrDeprecationWarning, "{} is deprecated; pass the string {!r} instead."),
    "ignored": (ZarrRuntimeWarning, "{} is not yet implemented, and ignored."),
    "nonfinite attribute": (
        ZarrUserWarning,
        (
            "attribute {!r} holds NaN or infinity, which is not valid JSON; other readers may "
            "refuse it"
        ),
    ),
    "order": (
        ZarrRuntimeWarning,
        (
            "The `order` keyword argument has no effect for Zarr format 3 arrays. To control the "
            "memory layout of results, pass `config={{'order': ...}}`."
        ),
    ),
    "not copied": (ZarrUserWarning, "Zarr has nothing for {}, which is not copied."),
    "references": (
        ZarrUserWarning,
        "Attributes of {} that refer to other objects are not copied: {}.",
    ),
    "reserved name": (
        ZarrUserWarning,
        ("The node name {!r} is reserved by the Zarr specification. Other readers may hide it."),
    ),
    "several processes": (
        ZarrRuntimeWarning,
        (
            "An array of another process is written to in parts of chunks, and {} has no "
            "conditional writes: what others write to the same chunks may be lost. "
            "config={{'lock': False}} says that nobody does."
        ),
    ),
    "tree": (ZarrDeprecationWarning, "Use Group.tree instead."),
    "two formats": (
        ZarrUserWarning,
        (
            "Both zarr.json (Zarr format 3) and {} (Zarr format 2) metadata objects exist at {}. "
            "Zarr format 3 will be used."
        ),
    ),
    "unstable data type": (
        UnstableSpecificationWarning,
        (
            "The data type ({}) does not have a Zarr V3 specification. Other readers may refuse "
            "arrays that have it."
        ),
    ),
    "write_empty_chunks": (
        ZarrRuntimeWarning,
        (
            "The `write_empty_chunks` keyword argument is deprecated; pass "
            "`config={{'write_empty_chunks': ...}}`, or change the setting array.write_empty_chunks."
        ),
    ),
}
"""Category and text by topic; the first words are those that filters match."""

_PACKAGE = __name__.partition(".")[0]


def warn(topic: str, *args: Any) -> None:
    """Give the warning of a topic, as one about the line outside this package that led to it."""
    category, text = WARNINGS[topic]
    level = 1
    frame: FrameType | None = sys._getframe(0)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        level, frame = level + 1, frame.f_back
    warnings.warn(text.format(*args), category, stacklevel=level)


def warn_ignored(**arguments: Any) -> None:
    """Warn about arguments of other versions that were given but have no meaning here."""
    for name, value in arguments.items():
        if value is not None:
            warn("ignored", name)


def describe(value: Any, limit: int = 80) -> str:
    """Return `repr(value)` cut to `limit` characters, for messages about hostile input."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  nested too deeply, for instance
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def near_names(name: str, names: Iterable[str]) -> list[str]:
    """Return those names that somebody may have meant who wrote one that does not exist."""
    from difflib import get_close_matches  # only for messages

    return list(map(repr, get_close_matches(name, list(names))))


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return the end of a message about a name that does not exist: those that are near it."""
    near = near_names(name, names)
    return f"; did you mean {' or '.join(near)}?" if near else ""


_OF_ZARR_2 = {
    "ABSStore": "storage.FsspecStore",
    "Attributes": "Array.attrs",
    "DBMStore": "storage.LocalStore or storage.ZipStore",
    "DirectoryStore": "storage.LocalStore",
    "FSStore": "storage.FsspecStore",
    "KVStore": "storage.MemoryStore",
    "LMDBStore": "storage.LocalStore or storage.ZipStore",
    "LRUStoreCache": "storage.CacheStore",
    "N5FSStore": "storage.N5View",
    "N5Store": "storage.N5View",
    "NestedDirectoryStore": "storage.LocalStore",
    "ProcessSynchronizer": "config={'lock': True}",
    "SQLiteStore": "storage.LocalStore or storage.ZipStore",
    "create_dataset": "create_array",
    "require_dataset": "require_array",
    "TempStore": "storage.LocalStore(tempfile.mkdtemp())",
    "ThreadSynchronizer": "needed no more: threads do not lose each other's updates",
}
"""What names of zarr 2 are called here."""


def no_attribute(module: str, name: str, names: Iterable[str]) -> AttributeError:
    """Return the error about a name that a package does not have."""
    if name in _OF_ZARR_2:
        hint = f"; {name} of zarr 2 is {_OF_ZARR_2[name]}"
    else:
        hint = "" if name.startswith("_") else did_you_mean(name, names)
    return AttributeError(f"module {module!r} has no attribute {name!r}{hint}")


def missing_method(node: object, name: str) -> NoReturn:
    """Raise the error about a method that an object does not have."""
    hint = f"; {name} of zarr 2 is {_OF_ZARR_2[name]}" if name in _OF_ZARR_2 else ""
    message = f"{type(node).__name__!r} object has no attribute {name!r}{hint}"
    raise AttributeError(message, name=name, obj=node)


def unexpected(
    what: object, expected: str, found: Any, kind: type[BaseZarrError] = MetadataValidationError
) -> BaseZarrError:
    """Return the error about something that says something else than expected."""
    return kind(f"{what}: expected {expected}, found {describe(found)}")
