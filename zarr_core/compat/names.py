"""What programs import from zarr-python, and where it is here: module, names, place.

Each line of a place is what real projects import from there, in comments those that need it; public
packages (`zarr`, `zarr.storage`, ...) have all of zarr-python 3.4.2's names. `name=other` is a name
that is another one at the place.
"""

from collections.abc import Mapping

API_LEVEL = "3.4.2"
"""The release of zarr-python whose names these are: `zarr.__version__`, on which programs branch."""

_BUFFERS = (
    "ArrayLike Buffer BufferPrototype NDArrayLike NDArrayLikeOrScalar NDBuffer "
    "default_buffer_prototype numpy_buffer_prototype buffer_prototype"
)
_KINDS = (
    "ArrayArrayCodec ArrayBytesCodec ArrayBytesCodecPartialDecodeMixin "
    "ArrayBytesCodecPartialEncodeMixin BaseCodec BytesBytesCodec Codec=BaseCodec CodecPipeline"
)
_RANGES = "ByteRequest OffsetByteRequest RangeByteRequest SuffixByteRequest"
_ERRORS = (
    "ArrayIndexError ArrayNotFoundError BaseZarrError BoundsCheckError ChunkNotFoundError "
    "ContainsArrayAndGroupError ContainsArrayError ContainsGroupError DataTypeValidationError "
    "GroupNotFoundError MetadataValidationError NegativeStepError NodeNotFoundError "
    "NodeTypeValidationError PickleCodecDisabledError ReadOnlyError UnknownCodecError "
    "UnstableSpecificationWarning VindexInvalidSelectionError ZarrDeprecationWarning "
    "ZarrFutureWarning ZarrRuntimeWarning ZarrUserWarning"
)
_DOCUMENTS = (
    "ZARRAY_JSON=V2_ARRAY ZATTRS_JSON=V2_ATTRIBUTES ZGROUP_JSON=V2_GROUP ZARR_JSON=V3_DOCUMENT "
    "ZMETADATA_V2_JSON=V2_CONSOLIDATED JSON ZarrFormat"
)
_INDEXERS = (
    "BasicIndexer BlockIndexer ChunkProjection CoordinateIndexer Indexer MaskIndexer "
    "OrthogonalIndexer ix_ oindex oindex_set"
)
_METADATA = (
    "ArrayV2Metadata ArrayV3Metadata DefaultChunkKeyEncoding RegularChunkGrid V2ChunkKeyEncoding"
)

NAMES: Mapping[str, Mapping[str, str]] = {
    "zarr": {"zarr_core": "*"},
    "zarr.abc": {},
    "zarr.abc.buffer": {"zarr_core.codecs.buffers": _BUFFERS},
    # imagecodecs-zarr, kerchunk, tifffile, virtualizarr, hdmf-zarr
    "zarr.abc.codec": {"zarr_core.codecs.foreign": _KINDS},
    "zarr.abc.metadata": {"zarr_core.metadata": "Metadata=NodeMetadata"},
    # icechunk, anndata, tifffile, virtualizarr, zarr-http-server, ome-zarr
    "zarr.abc.store": {
        "zarr_core.compat.stores": "Store SupportsDeleteSync SupportsGetSync SupportsSetSync",
        "zarr_core.storage": _RANGES,
    },
    "zarr.api": {},
    "zarr.api.asynchronous": {"zarr_core.compat.asynchronous": "*"},
    "zarr.api.synchronous": {"zarr_core": "*"},
    "zarr.buffer": {"zarr_core.codecs.buffers": _BUFFERS},
    "zarr.buffer.cpu": {"zarr_core.codecs.buffers": _BUFFERS},
    "zarr.codecs": {"zarr_core.codecs": "*"},
    "zarr.codecs.blosc": {"zarr_core.codecs": "BloscCname BloscCodec BloscShuffle"},
    "zarr.codecs.cast_value": {"zarr_core.codecs": "CastValue"},
    "zarr.codecs.bytes": {"zarr_core.codecs": "BytesCodec Endian"},
    "zarr.codecs.crc32c_": {"zarr_core.codecs": "Crc32cCodec"},
    "zarr.codecs.gzip": {"zarr_core.codecs": "GzipCodec"},
    "zarr.codecs.numcodecs": {"zarr_core.codecs.numcodecs": "*"},
    "zarr.codecs.scale_offset": {"zarr_core.codecs": "ScaleOffset"},
    "zarr.codecs.sharding": {
        "zarr_core.codecs": "ShardingCodec ShardingCodecIndexLocation SubchunkWriteOrder"
    },
    "zarr.codecs.transpose": {"zarr_core.codecs": "TransposeCodec"},
    "zarr.codecs.vlen_utf8": {"zarr_core.codecs": "VLenBytesCodec VLenUTF8Codec"},
    "zarr.codecs.zstd": {"zarr_core.codecs": "ZstdCodec"},
    "zarr.core": {},
    "zarr.core.array": {
        "zarr_core": "Array AsyncArray",
        "zarr_core.compat.asynchronous": "create_array from_array",
        "zarr_core.array.create": "DEFAULT_FILL_VALUE",
        "zarr_core.types": "CompressorLike=CodecLike FiltersLike=CodecLike SerializerLike=CodecLike",
    },
    # kerchunk, tifffile, imagecodecs-zarr, pydantic-zarr
    "zarr.core.array_spec": {
        "zarr_core.codecs.foreign": "ArraySpec",
        "zarr_core.config": "ArrayConfig ArrayConfigLike ArrayConfigParams=ArrayConfigLike",
    },
    "zarr.core.attributes": {"zarr_core.hierarchy.node": "Attributes"},
    "zarr.core.buffer": {"zarr_core.codecs.buffers": _BUFFERS},
    "zarr.core.buffer.core": {"zarr_core.codecs.buffers": _BUFFERS},
    "zarr.core.buffer.cpu": {"zarr_core.codecs.buffers": _BUFFERS},
    # cubed, tifffile
    "zarr.core.chunk_grids": {
        "zarr_core.compat.indexing": "ChunkGrid",
        "zarr_core.compat.metadata": "RegularChunkGrid",
    },
    "zarr.core.chunk_key_encodings": {
        "zarr_core.compat.metadata": "DefaultChunkKeyEncoding V2ChunkKeyEncoding",
        "zarr_core.metadata.chunk_keys": "ChunkKeyEncoding",
        "zarr_core.types": "ChunkKeyEncodingLike=JSON",
        "builtins": "ChunkKeyEncodingParams=dict",
    },
    "zarr.core.codec_pipeline": {
        "zarr_core.codecs.foreign": "BatchedCodecPipeline=CodecPipeline CodecPipeline"
    },
    # imagecodecs-zarr, kerchunk, anndata, icechunk
    "zarr.core.common": {
        "zarr_core.codecs.foreign": "parse_named_configuration",
        "zarr_core.compat.metadata": "parse_shapelike",
        "zarr_core.metadata.documents": _DOCUMENTS,
        "zarr_core.storage": "AccessModeLiteral=AccessMode ANY_ACCESS_MODE=AccessMode BytesLike=Value",
        "zarr_core.types": "ChunksLike ShapeLike MemoryOrder DimensionNamesLike=ShapeLike",
    },
    "zarr.core.config": {"zarr_core.config": "BadConfigError Config config"},
    "zarr.core.dtype": {
        "zarr_core.dtype": "*",
        "zarr_core.compat.dtype": "get_data_type_from_json get_data_type_from_native_dtype",
    },
    "zarr.core.group": {
        "zarr_core": "AsyncGroup Group create_hierarchy",
        "zarr_core.types": "ConsolidatedMetadata GroupMetadata",
    },
    # cubed, tifffile, xarray's tests
    "zarr.core.indexing": {
        "zarr_core.compat.indexing": _INDEXERS,
        "zarr_core.array.views": "BlockIndex OIndex VIndex",
        "zarr_core.array.asynchronous": "AsyncOIndex AsyncVIndex",
        "zarr_core.types": "Selection=JSON BasicSelection=JSON OrthogonalSelection=JSON",
        "zarr_core.errors": "ArrayIndexError BoundsCheckError VindexInvalidSelectionError",
    },
    # virtualizarr, hdmf-zarr, pydantic-zarr, icechunk
    "zarr.core.metadata": {
        "zarr_core.compat.metadata": _METADATA,
        "zarr_core.types": "ArrayMetadata ConsolidatedMetadata GroupMetadata",
    },
    "zarr.core.metadata.v2": {"zarr_core.compat.metadata": "ArrayV2Metadata"},
    "zarr.core.metadata.v3": {
        "zarr_core.compat.metadata": (
            "ArrayV3Metadata RegularChunkGridMetadata=RegularChunkGrid V3JsonEncoder "
            "parse_dimension_names parse_shapelike"
        )
    },
    # anndata, bio2zarr, hdmf-zarr, icechunk, napari-ome-zarr, pydantic-zarr, virtualizarr; xarray's tests
    "zarr.core.sync": {
        "zarr_core.compat.sync": (
            "SyncError SyncMixin cleanup_resources collect_aiterator sync "
            "_collect_aiterator=collect_aiterator _get_executor=get_executor"
        ),
        "zarr_core.threads.coroutines": "_get_loop=own_loop",
    },
    "zarr.core.sync_group": {
        "zarr_core": "create_hierarchy",
        "zarr_core.compat.asynchronous": "get_node",
    },
    "zarr.dtype": {"zarr_core.dtype": "*"},
    "zarr.errors": {"zarr_core.errors": _ERRORS},
    "zarr.experimental": {},
    "zarr.experimental.cache_store": {"zarr_core.storage": "CacheStore"},
    "zarr.metadata": {},
    "zarr.registry": {"zarr_core.registry": "*"},
    "zarr.storage": {
        "zarr_core.compat.stores": (
            "FsspecStore LocalStore ManagedMemoryStore MemoryStore ObjectStore StorePath ZipStore"
        ),
        "zarr_core.compat.wrappers": "LoggingStore WrapperStore",
        "zarr_core.storage": "StoreLike",
    },
    "zarr.storage._common": {
        "zarr_core.compat.stores": "StorePath contains_array contains_group make_store make_store_path",
        "zarr_core.storage": "StoreLike",
    },
    "zarr.storage._fsspec": {"zarr_core.compat.stores": "FsspecStore"},
    "zarr.storage._local": {"zarr_core.compat.stores": "LocalStore"},
    "zarr.storage._logging": {"zarr_core.compat.wrappers": "LoggingStore"},
    "zarr.storage._memory": {"zarr_core.compat.stores": "ManagedMemoryStore MemoryStore"},
    "zarr.storage._utils": {"zarr_core.storage": "normalize_path"},
    "zarr.storage._wrapper": {"zarr_core.compat.wrappers": "WrapperStore"},
    "zarr.storage._zip": {"zarr_core.compat.stores": "ZipStore"},
    "zarr.testing": {"zarr_core.compat.store_tests": "StoreTests assert_bytes_equal"},
    # icechunk and others that have stores: needs pytest, as hypothesis for the two below
    "zarr.testing.store": {"zarr_core.compat.store_tests": "*"},
    "zarr.testing.strategies": {"zarr_core.compat.strategies": "*"},
    "zarr.testing.stateful": {"zarr_core.compat.stateful": "*"},
    "zarr.testing.utils": {"zarr_core.compat.store_tests": "assert_bytes_equal"},
    "zarr.types": {"zarr_core.types": "*"},
}
