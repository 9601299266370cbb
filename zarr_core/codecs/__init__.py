"""Codecs: what turns the chunks of an array into stored bytes and back.

`zarr_core.codecs.numcodecs` has those of the package numcodecs.
"""

from typing import Any

from zarr_core.codecs.base import (
    ArrayArrayCodec,
    ArrayBytesCodec,
    BytesBytesCodec,
    ChunkSpec,
    Codec,
)
from zarr_core.codecs.blosc import BloscCodec
from zarr_core.codecs.chain import CodecChain, resolve_codecs
from zarr_core.codecs.checksum import Crc32cCodec
from zarr_core.codecs.deflate import GzipCodec
from zarr_core.codecs.layout import BytesCodec, TransposeCodec
from zarr_core.codecs.members import (
    BloscCname,
    BloscShuffle,
    Endian,
    ShardingCodecIndexLocation,
)
from zarr_core.codecs.registry import (
    LATER,
    codec_from_dict,
    codec_from_numcodecs,
    codecs_from_configs,
    get_codec_class,
    load_class,
    register_codec,
)
from zarr_core.codecs.scale_offset import ScaleOffset
from zarr_core.codecs.v2 import V2FilterCodec, v2_compressor
from zarr_core.codecs.vlen import VLenBytesCodec, VLenUTF8Codec
from zarr_core.codecs.zstd import ZstdCodec
from zarr_core.config import SubchunkWriteOrder
from zarr_core.errors import no_attribute

__all__ = [
    "ArrayArrayCodec",
    "ArrayBytesCodec",
    "BitRoundCodec",
    "BloscCname",
    "BloscCodec",
    "BloscShuffle",
    "BytesBytesCodec",
    "BytesCodec",
    "CastValue",
    "ChunkSpec",
    "Codec",
    "CodecChain",
    "Crc32cCodec",
    "Endian",
    "GzipCodec",
    "N5DefaultCodec",
    "PackBitsCodec",
    "ReshapeCodec",
    "ScaleOffset",
    "ShardingCodec",
    "ShardingCodecIndexLocation",
    "SqueezeCodec",
    "SubchunkWriteOrder",
    "TransposeCodec",
    "V2FilterCodec",
    "VLenBytesCodec",
    "VLenUTF8Codec",
    "ZfpCodec",
    "ZstdCodec",
    "codec_from_dict",
    "codec_from_numcodecs",
    "codecs_from_configs",
    "get_codec_class",
    "register_codec",
    "resolve_codecs",
    "v2_compressor",
]


def __getattr__(name: str) -> Any:
    if name == "ShardingCodec":
        return get_codec_class("sharding_indexed")  # in a module above this package
    for place in LATER.values():
        if name == place[1]:
            return load_class(*place)
    raise no_attribute(__name__, name, __all__)
