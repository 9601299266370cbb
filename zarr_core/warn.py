"""The warnings that other libraries filter: category and first words in one table."""

import warnings
from typing import Any

from zarr_core.errors import (
    UnstableSpecificationWarning,
    ZarrDeprecationWarning,
    ZarrRuntimeWarning,
    ZarrUserWarning,
)

WARNINGS: dict[str, tuple[type[Warning], str]] = {
    "unstable data type": (
        UnstableSpecificationWarning,
        "The data type ({}) does not have a Zarr V3 specification. Other readers may refuse "
        "arrays that have it.",
    ),
    "consolidated v3": (
        ZarrUserWarning,
        "Consolidated metadata is currently not part in the Zarr format 3 specification. It may "
        "not be supported by other zarr implementations.",
    ),
    "automatic shards": (
        ZarrUserWarning,
        "Automatic shard shape inference is experimental and may change without notice.",
    ),
    "order": (
        ZarrRuntimeWarning,
        "The `order` keyword argument has no effect for Zarr format 3 arrays. To control "
        "the memory layout of results, pass `config={{'order': ...}}`.",
    ),
    "compressor": (
        ZarrUserWarning,
        "The `compressor` argument is deprecated. Use `compressors` instead.",
    ),
    "ignored": (ZarrRuntimeWarning, "{} is not yet implemented and ignored."),
    "reserved name": (
        ZarrUserWarning,
        "The node name {!r} is reserved by the Zarr specification. Other readers may hide it.",
    ),
    "tree": (ZarrDeprecationWarning, "Use Group.tree instead."),
}
"""Category and text by topic; the first words are those that filters match."""


def warn(topic: str, *args: Any, stacklevel: int = 2) -> None:
    """Give the warning of a topic."""
    category, text = WARNINGS[topic]
    warnings.warn(text.format(*args), category, stacklevel=stacklevel + 1)


def warn_ignored(**arguments: Any) -> None:
    """Warn about arguments of zarr 2 that were given but have no meaning here."""
    for name, value in arguments.items():
        if value is not None:
            warn("ignored", name, stacklevel=3)
