"""Settings: process-wide defaults, context-local overrides, and the options of one array.

`config.set({...})` changes the process; `with config.set({...}):` only the current context (thread
or task), and is undone at the end. Keys are those of zarr-python where they mean something here.
Environment variables `ZARR_CORE_ARRAY__ORDER=F` (or `ZARR_...`) set `array.order` at import.
"""

import ast
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, fields, replace
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Any, Literal, Self, TypeAlias, final, get_args
from weakref import ref

from zarr_core.errors import ZarrUserWarning, did_you_mean
from zarr_core.locks import ForkLock

MemoryOrder: TypeAlias = Literal["C", "F"]
SubchunkWriteOrder: TypeAlias = Literal["morton", "unordered", "lexicographic", "colexicographic"]
SUBCHUNK_WRITE_ORDERS: tuple[SubchunkWriteOrder, ...] = get_args(SubchunkWriteOrder)

_Rule: TypeAlias = tuple[str, Callable[[Any], bool]]
"""What a setting may be, in words and as a test. What is None by default may be None, too."""


def _number(value: Any, least: int = 0, kinds: Any = int) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool) and bool(value >= least)


def _one_of(*choices: Any) -> _Rule:
    return f"one of {choices}", lambda value: value in choices


_SWITCH: _Rule = "True or False", lambda value: isinstance(value, bool)
_SIZE: _Rule = "a number that is not negative", _number
_COUNT: _Rule = "a number of at least 1", partial(_number, least=1)
_SECONDS: _Rule = _SIZE[0], partial(_number, kinds=(int, float))
_ANYTHING: _Rule = "anything", lambda _: True

_SETTINGS: Mapping[str, tuple[Any, _Rule]] = {
    "array.order": ("C", _one_of("C", "F")),
    "array.write_empty_chunks": (False, _SWITCH),
    "array.read_missing_chunks": (True, _SWITCH),
    "array.sharding_coalesce_max_gap_bytes": (1 << 20, _SIZE),
    "array.sharding_coalesce_max_bytes": (16 << 20, _SIZE),
    "array.target_shard_size_bytes": (None, _SIZE),
    # Shard indexes kept per array, in bytes; 0 is off. See docs on shards changed by others.
    "array.shard_index_cache_bytes": (0, _SIZE),
    # Decoded chunks kept per array, in bytes; 0 is off.
    "array.chunk_cache_bytes": (0, _SIZE),
    "array.batch_bytes": (256 << 20, _SIZE),
    # Shards of more bytes in memory are written piece by piece.
    "array.shard_stream_bytes": (16 << 20, _SIZE),
    "array.lock": (None, _SWITCH),
    "default_zarr_format": (3, _one_of(2, 3)),
    "json_indent": (2, _SIZE),
    # Threads that decode and encode inside one call, the caller's own included.
    "threading.max_workers": (None, _COUNT),
    # One budget per process for requests on their way to high-latency stores.
    "io.max_requests": (256, _COUNT),
    "io.max_bytes": (1 << 30, _SIZE),
    # Seconds for which a request to a busy or broken server is made again.
    "io.retry_seconds": (10, _SECONDS),
    # Calls of `*_async` twins that run at once, for stores of low and of high latency.
    "async.limit": (None, _COUNT),
    "async.limit_high_latency": (256, _SIZE),
    # Seconds after which a call gives up; None is never.
    "async.timeout": (None, _SECONDS),
    "metadata.max_bytes": (64 << 20, _SIZE),
    # What one result or one chunk may need; None is the memory of the machine.
    "memory.max_bytes": (None, _SIZE),
    # What one chunk of text or bytes of any length may decode to.
    "memory.max_variable_chunk_bytes": (1 << 30, _SIZE),
    # Settings of zarr-python for machinery that does not exist here: they are kept, and do nothing.
    "array.allow_unsafe_pickle_decode": (False, _ANYTHING),
    "array.rectilinear_chunks": (True, _ANYTHING),
    "async.concurrency": (10, _ANYTHING),
    "buffer": ("zarr.buffer.cpu.Buffer", _ANYTHING),
    "codec_pipeline.batch_size": (1, _ANYTHING),
    "codec_pipeline.max_workers": (None, _ANYTHING),
    "codec_pipeline.path": ("zarr.core.codec_pipeline.BatchedCodecPipeline", _ANYTHING),
    "ndbuffer": ("zarr.buffer.cpu.NDBuffer", _ANYTHING),
}
"""Every key, its default, and what it may be."""

DEFAULTS: Mapping[str, Any] = {key: default for key, (default, _) in _SETTINGS.items()}
"""Every key and its default."""


class BadConfigError(ValueError, KeyError, TypeError):
    """A setting does not exist or its value is not valid."""

    def __str__(self) -> str:
        return ValueError.__str__(self)


def _no_setting(key: str) -> BadConfigError:
    near = did_you_mean(key, DEFAULTS) or "; see zarr_core.config.to_dict()"
    return BadConfigError(f"there is no setting {key!r}{near}")


def _check(key: str, value: Any) -> None:
    default, (allowed, fits) = _SETTINGS[key]
    if not (fits(value) or (value is None and default is None)):
        raise BadConfigError(f"{key} must be {allowed}, not {value!r}")


_SWITCHES = {"0": False, "false": False, "1": True, "true": True}


def _parse(key: str, text: str) -> Any:
    """Return the value that an environment variable gives a setting."""
    value: Any = text
    if isinstance(DEFAULTS[key], bool):
        value = _SWITCHES.get(text.lower(), text)
    else:
        with suppress(ValueError, SyntaxError):
            value = ast.literal_eval(text)
    _check(key, value)
    return value


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        key = f"{prefix}{name}".replace("__", ".")
        if isinstance(value, Mapping) and key != "codecs":
            yield from _flatten(value, f"{key}.")
        else:
            yield key, value


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        *parents, name = key.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = value
    return nested


@final
class _Change:
    """What `config.set` returns: as a context manager it makes the change local and temporary."""

    __slots__ = ("__weakref__", "_config", "_settings", "_tokens", "earlier")

    def __init__(self, owner: "Config", settings: dict[str, Any]) -> None:
        self._config, self._settings = owner, settings
        self._tokens: list[Token[Mapping[str, Any]]] = []
        self.earlier: dict[str, _Earlier] = {}

    def __enter__(self) -> "Config":
        self._config._undo(self)
        self._tokens.append(_overrides.set({**_overrides.get(), **self._settings}))
        return self._config

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _overrides.reset(self._tokens.pop())

    def __repr__(self) -> str:
        settings = ", ".join(f"{key}={value!r}" for key, value in self._settings.items())
        return f"<settings of zarr_core: {settings}>"


_Earlier: TypeAlias = tuple[Any, ref[_Change] | None]
"""A value that was changed, and what had set it if that could still be made local."""


_NO_OVERRIDES: Mapping[str, Any] = MappingProxyType({})
_overrides: ContextVar[Mapping[str, Any]] = ContextVar("zarr_core_config", default=_NO_OVERRIDES)


@final
class Config:
    """The settings of this process and context; there is one, `zarr_core.config`.

    >>> with zarr.config.set({"array.order": "F"}):
    ...     zarr.config.get("array.order")
    'F'
    """

    def __init__(self) -> None:
        self._process: dict[str, Any] = dict(DEFAULTS)
        self._latest: dict[str, ref[_Change]] = {}
        self._changes = 0
        self._warned: set[str] = set()
        self._lock = ForkLock()
        self.refresh()

    def get(self, key: str, default: Any = ...) -> Any:
        """Return a setting, or a dictionary of settings when `key` is the start of several.

        >>> zarr.config.get("default_zarr_format")
        3
        """
        overrides = _overrides.get()
        if key in overrides:
            return overrides[key]
        if key in self._process:
            return self._process[key]
        start = f"{key}."
        below = {
            k.removeprefix(start): v for k, v in self._current().items() if k.startswith(start)
        }
        if below or key == "codecs":  # zarr-python's choice of classes; here it is `register_codec`
            return below
        if default is not ...:
            return default
        raise _no_setting(key)

    def set(self, settings: Mapping[str, Any] | None = None, **kwargs: Any) -> _Change:
        """Change settings; see the module's description of the two ways to use it.

        Raises `BadConfigError` for a key that does not exist or a value that is not valid.

        >>> with zarr.config.set({"array.write_empty_chunks": True}):
        ...     zarr.zeros(2).config.write_empty_chunks
        True
        """
        changes: dict[str, Any] = {}
        for key, value in _flatten({**(settings or {}), **kwargs}):
            if key.partition(".")[0] == "codecs":
                self._warn_of_codecs(key)
            elif key not in DEFAULTS:
                raise _no_setting(key)
            else:
                _check(key, value)
                changes[key] = value
        change = _Change(self, changes)
        with self._lock:
            for key, value in changes.items():
                change.earlier[key] = self._process[key], self._latest.get(key)
                self._process[key], self._latest[key] = value, ref(change)
            self._changes += 1
        return change

    def _undo(self, change: _Change) -> None:
        """Take a change back; what was set after it stays."""
        with self._lock:
            for key, (value, before) in change.earlier.items():
                later = None
                latest = self._latest.get(key)
                at = None if latest is None else latest()
                while at is not None and at is not change:
                    later, (_, latest) = at, at.earlier[key]
                    at = None if latest is None else latest()
                if at is None:
                    continue  # something after it is for good
                if later is not None:
                    later.earlier[key] = value, before
                    continue
                self._process[key] = value
                del self._latest[key]
                if before is not None:
                    self._latest[key] = before
            change.earlier = {}
            self._changes += 1

    update = set

    def _warn_of_codecs(self, key: str) -> None:
        if key not in self._warned:
            self._warned.add(key)
            warnings.warn(
                f"the setting {key!r} of zarr-python is ignored: zarr_core.codecs.register_codec() "
                "says which class a codec has",
                ZarrUserWarning,
                stacklevel=3,
            )

    def refresh(self) -> None:
        """Read the environment variables again.

        >>> zarr.config.refresh()
        """
        for variable, text in os.environ.items():
            for start in ("ZARR_", "ZARR_CORE_"):
                key = variable.removeprefix(start).lower().replace("__", ".")
                if variable.startswith(start) and key in DEFAULTS:
                    try:
                        value = _parse(key, text)
                    except BadConfigError as error:
                        message = f"the environment variable {variable} is ignored: {error}"
                        warnings.warn(message, ZarrUserWarning, stacklevel=2)
                    else:
                        self._process[key] = value
        self._changes += 1

    def reset(self) -> None:
        """Go back to the defaults and the environment variables.

        >>> zarr.config.reset()
        """
        with self._lock:
            self._latest.clear()
            self._process.update(DEFAULTS)
        self.refresh()

    def stamp(self) -> tuple[int, Mapping[str, Any]]:
        """Return something that stays the same as long as no setting changes in this context."""
        return self._changes, _overrides.get()

    def _current(self) -> dict[str, Any]:
        return {**self._process, **_overrides.get()}

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as nested dictionaries.

        >>> zarr.config.to_dict()["io"]["max_requests"]
        256
        """
        return _nested(self._current())

    @property
    def config(self) -> dict[str, Any]:
        """All settings, as `to_dict` gives them."""
        return self.to_dict()

    @property
    def defaults(self) -> list[dict[str, Any]]:
        """The defaults, in a list as zarr-python has them."""
        return [_nested(DEFAULTS)]

    def enable_gpu(self) -> None:
        """Raise `RuntimeError`: results are in the memory of the CPU, unless `out` is given."""
        raise RuntimeError(
            "zarr_core has no buffers on GPUs: read into memory, or pass a NumPy-compatible array "
            "as `out`"
        )

    def pprint(self) -> None:
        """Print all settings.

        >>> zarr.config.pprint()
        {'array': {...
        """
        import pprint

        pprint.pprint(self.to_dict())  # noqa: T203 - what the method is for

    def __repr__(self) -> str:
        return f"<Config of zarr_core, {len(DEFAULTS)} settings>"


config: Config = Config()


@final
@dataclass(frozen=True, slots=True)
class ArrayConfig:
    """How one array is read and written; fixed when it is opened, changed by `with_config`.

    >>> zarr.zeros(2, config={"order": "F"}).config.order
    'F'
    """

    order: MemoryOrder = DEFAULTS["array.order"]
    """Memory order of results."""
    write_empty_chunks: bool = DEFAULTS["array.write_empty_chunks"]
    """Store chunks that hold nothing but the fill value."""
    read_missing_chunks: bool = DEFAULTS["array.read_missing_chunks"]
    """Read chunks that are not stored as the fill value; otherwise raise `ChunkNotFoundError`."""
    sharding_coalesce_max_gap_bytes: int = DEFAULTS["array.sharding_coalesce_max_gap_bytes"]
    """Ranges of a shard that are at most this far apart are read with one request."""
    sharding_coalesce_max_bytes: int = DEFAULTS["array.sharding_coalesce_max_bytes"]
    """Ranges are not merged beyond this size."""
    shard_index_cache_bytes: int = DEFAULTS["array.shard_index_cache_bytes"]
    """Memory for indexes of shards; 0 reads the index at every call."""
    batch_bytes: int = DEFAULTS["array.batch_bytes"]
    """Memory that `Array.batch()` may hold before it writes."""
    shard_stream_bytes: int = DEFAULTS["array.shard_stream_bytes"]
    """Shards of more bytes in memory are written in pieces of about this size, or of one inner chunk."""
    lock: bool | None = DEFAULTS["array.lock"]
    """Lose nothing when processes write to different parts of one chunk, all with this option: a
    chunk is read, and written on the condition that it is still the same, or else changed anew.
    None is for handles that were unpickled in another process than they were made in, and for the
    arrays of such groups."""
    chunk_cache: Any = None
    """A `ChunkCache` for decoded chunks, which other arrays may have, too."""
    chunk_cache_bytes: int = DEFAULTS["array.chunk_cache_bytes"]
    """Memory for decoded chunks in a cache of the array's own; 0 keeps none."""
    subchunk_write_order: SubchunkWriteOrder | None = None
    """Order of the inner chunks in shards that are written; None is as the codec says (Morton)."""
    async_limit: int | None = None
    """Awaited calls on this array that run at once; None takes the process-wide setting."""
    _allow_pickle: bool = field(default=False, repr=False)
    """Read chunks that are pickles: set by an argument of a call, and by nothing else."""

    def __post_init__(self) -> None:
        for name in _SET_FOR_ALL:
            _check(f"array.{name}", getattr(self, name))
        if self.subchunk_write_order not in (None, *SUBCHUNK_WRITE_ORDERS):
            raise BadConfigError(
                f"subchunk_write_order must be one of {SUBCHUNK_WRITE_ORDERS}, "
                f"not {self.subchunk_write_order!r}"
            )
        if self.async_limit is not None:
            _check("async.limit", self.async_limit)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "ArrayConfig":
        """Return the process-wide options with those of `data` in their place."""
        return cls.current().with_(**data)

    @staticmethod
    def current() -> "ArrayConfig":
        """Return the options that arrays opened now get."""
        global _known  # noqa: PLW0603 - hierarchies open thousands of arrays
        changes, overrides = config.stamp()
        known_changes, known_overrides, known = _known
        if changes != known_changes or overrides is not known_overrides:
            known = ArrayConfig(**{name: config.get(f"array.{name}") for name in _SET_FOR_ALL})
            _known = changes, overrides, known
        return known

    def to_dict(self) -> dict[str, Any]:
        """Return the options by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "_allow_pickle"}

    def with_(self, **changes: Any) -> Self:
        """Return a copy with some options changed; raise `BadConfigError` for unknown ones."""
        unknown = changes.keys() - self.to_dict().keys()
        if unknown:
            near = did_you_mean(min(unknown), self.to_dict())
            raise BadConfigError(f"Unknown array config keys: {sorted(unknown)}{near}")
        return replace(self, **changes)

    def _allowing_pickle(self) -> Self:
        """Return a copy for an array whose chunks may run any code when they are read."""
        return replace(self, _allow_pickle=True)


_SET_FOR_ALL = [option.name for option in fields(ArrayConfig) if f"array.{option.name}" in DEFAULTS]


_known: tuple[int, Mapping[str, Any], ArrayConfig] = (-1, {}, ArrayConfig())
"""The options for `Config.stamp()`, as they were last asked for."""


ArrayConfigLike: TypeAlias = ArrayConfig | Mapping[str, Any]


def array_config(like: ArrayConfigLike | None, base: ArrayConfig | None = None) -> ArrayConfig:
    """Return what a `config=` argument means; `base` (or the process's options) fills the gaps."""
    if isinstance(like, ArrayConfig):
        return like
    base = base or ArrayConfig.current()
    return base.with_(**like) if like else base
