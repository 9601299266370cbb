"""What the documents of a node say: data types, chunk grids and keys, JSON, array and group metadata."""

from zarr_core.metadata.array import ArrayMetadata
from zarr_core.metadata.group import ConsolidatedMetadata, GroupMetadata, NodeMetadata

__all__ = ["ArrayMetadata", "ConsolidatedMetadata", "GroupMetadata", "NodeMetadata"]
