"""The warnings that other libraries filter: category and first words in one table."""

import sys
import warnings
from types import FrameType
from typing import Any

from zarr_core.errors import (
    UnstableSpecificationWarning,
    ZarrDeprecationWarning,
    ZarrRuntimeWarning,
    ZarrUserWarning,
)

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
