"""Names of settings that zarr-python once had as enumerations: `BloscShuffle.shuffle`, `Endian.little`.

Their members are the strings that documents have, which new programs write.
"""

from collections.abc import Iterator
from typing import Any, Final

from zarr_core.errors import warn


class _Members(type):
    """The type of such classes; they have no instances."""

    members: tuple[str, ...]

    def __getattr__(cls, name: str) -> str:
        if name.startswith("_") or name not in cls.members:
            raise AttributeError(f"{cls.__name__} has no member {name!r}")
        warn("enumeration", f"{cls.__name__}.{name}", name)
        return name

    def __call__(cls, value: Any) -> Any:
        """Return a member of that name; raise `ValueError` if there is none."""
        if value in cls.members:
            return value
        raise ValueError(f"{value!r} is not a valid {cls.__name__}")

    def __iter__(cls) -> Iterator[str]:
        return iter(cls.members)

    def __len__(cls) -> int:
        return len(cls.members)

    def __contains__(cls, value: object) -> bool:
        return value in cls.members

    def __dir__(cls) -> list[str]:
        return [*super().__dir__(), *cls.members]


class BloscCname(metaclass=_Members):
    """The compressors inside Blosc."""

    members: Final = ("lz4", "lz4hc", "blosclz", "snappy", "zlib", "zstd")


class BloscShuffle(metaclass=_Members):
    """What Blosc does with the bytes of elements before it compresses them."""

    members: Final = ("noshuffle", "shuffle", "bitshuffle")

    @staticmethod
    def from_int(num: int) -> str:
        """Return the name of one of numcodecs' numbers."""
        if num not in (0, 1, 2):
            raise ValueError(f"Value must be between 0 and 2. Got {num}.")
        return BloscShuffle.members[num]


class Endian(metaclass=_Members):
    """Byte orders."""

    members: Final = ("little", "big")


class ShardingCodecIndexLocation(metaclass=_Members):
    """Where the index of a shard is."""

    members: Final = ("start", "end")
