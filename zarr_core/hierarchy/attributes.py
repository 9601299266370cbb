"""The user attributes of a node, as a dictionary that is stored with every change."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, Protocol, final

from zarr_core.metadata.documents import check_attributes
from zarr_core.twins import async_twin


class AttributeOwner(Protocol):
    """What `Attributes` need of an array or a group."""

    @property
    def _current_attributes(self) -> Mapping[str, Any]: ...

    def _change_attributes(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None: ...

    def _twin_lane(self) -> tuple[bool, int | None, object]: ...


@final
class Attributes(MutableMapping[str, Any]):
    """Attributes of an array or group.

    Reading shows what this handle knows; a change is made to what is stored at that time, so that
    two handles do not lose each other's attributes. Values are JSON. A nested value is a copy:
    assign it again to store a change in it.
    """

    __slots__ = ("_owner",)

    def __init__(self, owner: AttributeOwner) -> None:
        self._owner = owner

    def __getitem__(self, key: str) -> Any:
        return self._owner._current_attributes[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __delitem__(self, key: str) -> None:
        if key not in self._owner._current_attributes:
            raise KeyError(key)
        self._owner._change_attributes(lambda old: {k: v for k, v in old.items() if k != key})

    def __iter__(self) -> Iterator[str]:
        return iter(self._owner._current_attributes)

    def __len__(self) -> int:
        return len(self._owner._current_attributes)

    def __contains__(self, key: object) -> bool:
        return key in self._owner._current_attributes

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set several attributes at once; raise `MetadataValidationError` if they are not JSON."""
        new = check_attributes(dict(*args, **kwargs))
        self._owner._change_attributes(lambda old: {**old, **new})

    def put(self, attributes: Mapping[str, Any]) -> None:
        """Replace all attributes."""
        new = check_attributes(attributes)
        self._owner._change_attributes(lambda _: new)

    def clear(self) -> None:
        """Remove all attributes."""
        self.put({})

    def asdict(self) -> dict[str, Any]:
        """Return the attributes as a dictionary."""
        return dict(self._owner._current_attributes)

    def _twin_lane(self) -> tuple[bool, int | None, object]:
        return self._owner._twin_lane()

    def __repr__(self) -> str:
        return repr(self.asdict())

    put_async = async_twin(put)
    clear_async = async_twin(clear)
    update_async = async_twin(update)
    setitem_async = async_twin(__setitem__)
    delitem_async = async_twin(__delitem__)
