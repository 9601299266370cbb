from zarr_core.chunks.sharding import ShardingCodec as ShardingCodec
from zarr_core.codecs import numcodecs as numcodecs
from zarr_core.codecs.base import ArrayArrayCodec as ArrayArrayCodec
from zarr_core.codecs.base import ArrayBytesCodec as ArrayBytesCodec
from zarr_core.codecs.base import BytesBytesCodec as BytesBytesCodec
from zarr_core.codecs.base import ChunkSpec as ChunkSpec
from zarr_core.codecs.base import Codec as Codec
from zarr_core.codecs.bitround import BitRoundCodec as BitRoundCodec
from zarr_core.codecs.blosc import BloscCodec as BloscCodec
from zarr_core.codecs.cast_value import CastValue as CastValue
from zarr_core.codecs.chain import CodecChain as CodecChain
from zarr_core.codecs.chain import resolve_codecs as resolve_codecs
from zarr_core.codecs.checksum import Crc32cCodec as Crc32cCodec
from zarr_core.codecs.deflate import GzipCodec as GzipCodec
from zarr_core.codecs.layout import BytesCodec as BytesCodec
from zarr_core.codecs.layout import TransposeCodec as TransposeCodec
from zarr_core.codecs.members import BloscCname as BloscCname
from zarr_core.codecs.members import BloscShuffle as BloscShuffle
from zarr_core.codecs.members import Endian as Endian
from zarr_core.codecs.members import ShardingCodecIndexLocation as ShardingCodecIndexLocation
from zarr_core.codecs.n5 import N5DefaultCodec as N5DefaultCodec
from zarr_core.codecs.packbits import PackBitsCodec as PackBitsCodec
from zarr_core.codecs.registry import codec_from_dict as codec_from_dict
from zarr_core.codecs.registry import codec_from_numcodecs as codec_from_numcodecs
from zarr_core.codecs.registry import codecs_from_configs as codecs_from_configs
from zarr_core.codecs.registry import get_codec_class as get_codec_class
from zarr_core.codecs.registry import register_codec as register_codec
from zarr_core.codecs.reshape import ReshapeCodec as ReshapeCodec
from zarr_core.codecs.reshape import SqueezeCodec as SqueezeCodec
from zarr_core.codecs.scale_offset import ScaleOffset as ScaleOffset
from zarr_core.codecs.v2 import V2FilterCodec as V2FilterCodec
from zarr_core.codecs.v2 import v2_compressor as v2_compressor
from zarr_core.codecs.vlen import VLenBytesCodec as VLenBytesCodec
from zarr_core.codecs.vlen import VLenUTF8Codec as VLenUTF8Codec
from zarr_core.codecs.zfp import ZfpCodec as ZfpCodec
from zarr_core.codecs.zstd import ZstdCodec as ZstdCodec
from zarr_core.config import SubchunkWriteOrder as SubchunkWriteOrder

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
