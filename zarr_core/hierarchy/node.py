"""A handle on a node: where it is, and its user attributes."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from copy import deepcopy
from typing import Any, Final, final

from zarr_core.errors import ReadOnlyError
from zarr_core.metadata.documents import DOCUMENTS, check_attributes
from zarr_core.storage import StorePath
from zarr_core.threads.twins import async_twin


@final
class Attributes(MutableMapping[str, Any]):
    """Attributes of an array or group.

    Reading shows what this handle knows; a change is made to what is stored at that time, so that
    two handles do not lose each other's attributes. Values are JSON. A nested value is a copy:
    assign it again to store a change in it.

    >>> attrs = zarr.zeros(2).attrs
    >>> attrs["units"] = "m"
    >>> attrs.asdict()
    {'units': 'm'}
    """

    __slots__ = ("__weakref__", "_node")

    def __init__(self, node: "Node") -> None:
        self._node = node

    def __getitem__(self, key: str) -> Any:
        return deepcopy(self._node._current_attributes[key])

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __delitem__(self, key: str) -> None:
        if key not in self._node._current_attributes:
            raise KeyError(key)
        self._node._change_attributes(lambda old: {k: v for k, v in old.items() if k != key})

    def __iter__(self) -> Iterator[str]:
        return iter(self._node._current_attributes)

    def __len__(self) -> int:
        return len(self._node._current_attributes)

    def __contains__(self, key: object) -> bool:
        return key in self._node._current_attributes

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set several attributes at once; raise `MetadataValidationError` if they are not JSON.

        >>> attrs = zarr.zeros(2, attributes={"a": 1}).attrs
        >>> attrs.update(b=2)  # one write, however many there are
        >>> attrs.asdict()
        {'a': 1, 'b': 2}
        """
        new = check_attributes(dict(*args, **kwargs))
        self._node._change_attributes(lambda old: {**old, **new})

    def put(self, attributes: Mapping[str, Any]) -> None:
        """Replace all attributes.

        >>> attrs = zarr.zeros(2, attributes={"a": 1}).attrs
        >>> attrs.put({"b": 2})
        >>> attrs.asdict()
        {'b': 2}
        """
        new = check_attributes(attributes)
        self._node._change_attributes(lambda _: new)

    def clear(self) -> None:
        """Remove all attributes.

        >>> attrs = zarr.zeros(2, attributes={"a": 1}).attrs
        >>> attrs.clear()
        >>> len(attrs)
        0
        """
        self.put({})

    def asdict(self) -> dict[str, Any]:
        """Return the attributes as a dictionary, a copy at every depth.

        >>> zarr.zeros(2, attributes={"a": 1}).attrs.asdict()
        {'a': 1}
        """
        return deepcopy(dict(self._node._current_attributes))

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def _twin_lane(self) -> tuple[bool, int | None, object]:
        return self._node._twin_lane()

    def __repr__(self) -> str:
        return repr(self.asdict())

    put_async: Final = async_twin(put)
    clear_async: Final = async_twin(clear)
    update_async: Final = async_twin(update)
    setitem_async: Final = async_twin(__setitem__)
    delitem_async: Final = async_twin(__delitem__)


class Node:
    """What arrays and groups have in common."""

    _store_path: StorePath

    @property
    def store_path(self) -> Any:
        """Where the node is: a `StorePath`."""
        return self._store_path.shown()

    @property
    def store(self) -> Any:
        """The store that holds the node: the very one that was given, also of another library."""
        return self._store_path.store.shown()

    @property
    def path(self) -> str:
        """Path of the node in its store; `""` is the root."""
        return self._store_path.path

    @property
    def name(self) -> str:
        """Path with a leading slash."""
        return f"/{self.path}"

    @property
    def basename(self) -> str:
        """Last segment of the path."""
        return self.path.rpartition("/")[2]

    @property
    def read_only(self) -> bool:
        """Whether changing anything raises `ReadOnlyError`."""
        return self._store_path.read_only

    def _check_writable(self) -> None:
        if self._store_path.store.read_only:
            raise ReadOnlyError(f"{self!r} is read-only")

    @property
    def attrs(self) -> Attributes:
        """User attributes; every change is stored."""
        return Attributes(self)

    @property
    def _current_attributes(self) -> Mapping[str, Any]:
        raise NotImplementedError

    def _change_attributes(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Store what `change` makes of the attributes that are stored."""
        raise NotImplementedError

    def to_references(self, url: str | None = None) -> dict[str, Any]:
        """Return kerchunk references to what is stored of the node, and of all nodes below it.

        Documents are in them as text; chunks are the URLs of their files, below `url` (by default that
        of the store), in the form of version 1, to be written as JSON.
        `storage.ReferenceStore` reads them, and so does fsspec's `reference://`.

        >>> array = zarr.create_array("referred.zarr", data=np.arange(2), zarr_format=2)
        >>> array.to_references("https://example.org/a")["refs"]["0"]
        ['https://example.org/a/0']
        """
        place = self._store_path
        if url is None:
            url = str(place)
            if "://" not in url or url.startswith(("memory://", "references://")):
                raise ValueError(f"say the URL at which others find {url}")
        start = f"{place.path}/" if place.path else ""
        refs: dict[str, Any] = {}
        for key in sorted(place.store.list_prefix(place.path)):
            name = key.removeprefix(start)
            if name.rpartition("/")[2] not in DOCUMENTS:
                refs[name] = [f"{url.rstrip('/')}/{name}"]
            elif (document := place.store.get(key)) is not None:
                refs[name] = bytes(document).decode()
        return {"version": 1, "refs": refs}

    to_references_async: Final = async_twin(to_references)

    def _ipython_key_completions_(self) -> list[str]:
        """Return what may stand in brackets: names of members, or of an array's fields."""
        names = getattr(self, "keys", None)
        return list(self.dtype.names or () if names is None else names())  # type: ignore[attr-defined]

    def _twin_lane(self) -> tuple[bool, int | None, object]:
        """Return what a twin needs to know to find a thread."""
        raise NotImplementedError
