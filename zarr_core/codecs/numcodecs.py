"""The codecs of numcodecs for format 3, under the names that zarr-python gives them.

Format 3 does not specify them; other implementations may not read what they write. Each takes the
parameters that the codec of the same name has in numcodecs, as keywords.
"""

from zarr_core.codecs.numcodecs_codecs import (
    NumcodecsArrayArrayCodec,
    NumcodecsArrayBytesCodec,
    NumcodecsBytesBytesCodec,
)

__all__ = [
    "BZ2",
    "CRC32",
    "CRC32C",
    "LZ4",
    "LZMA",
    "ZFPY",
    "Adler32",
    "AsType",
    "BitRound",
    "Blosc",
    "Delta",
    "FixedScaleOffset",
    "Fletcher32",
    "GZip",
    "JenkinsLookup3",
    "PCodec",
    "PackBits",
    "Quantize",
    "Shuffle",
    "Zlib",
    "Zstd",
]


class BZ2(NumcodecsBytesBytesCodec, codec_id="bz2"):
    """Bzip2. `level` is from 1 to 9."""


class CRC32(NumcodecsBytesBytesCodec, codec_id="crc32"):
    """A CRC-32 before the data, or at `location="end"`."""


class CRC32C(NumcodecsBytesBytesCodec, codec_id="crc32c"):
    """A CRC-32C after the data, or at `location="start"`."""


class LZ4(NumcodecsBytesBytesCodec, codec_id="lz4"):
    """LZ4. `acceleration` is 1 or more."""


class LZMA(NumcodecsBytesBytesCodec, codec_id="lzma"):
    """LZMA. `format`, `check`, `preset` and `filters` as in the module lzma."""


class ZFPY(NumcodecsArrayBytesCodec, codec_id="zfpy"):
    """ZFP, lossy; needs the package zfpy."""


class Adler32(NumcodecsBytesBytesCodec, codec_id="adler32"):
    """An Adler-32 checksum before the data, or at `location="end"`."""


class AsType(NumcodecsArrayArrayCodec, codec_id="astype"):
    """Elements cast to `encode_dtype`, and back to `decode_dtype`."""


class BitRound(NumcodecsArrayArrayCodec, codec_id="bitround"):
    """Floating-point numbers rounded to `keepbits` bits of mantissa."""


class Blosc(NumcodecsBytesBytesCodec, codec_id="blosc"):
    """Blosc; `shuffle` is a number, -1 for automatic."""


class Delta(NumcodecsArrayArrayCodec, codec_id="delta"):
    """Differences of neighbours. `dtype` and, optionally, `astype`."""


class FixedScaleOffset(NumcodecsArrayArrayCodec, codec_id="fixedscaleoffset"):
    """`(x - offset) * scale`, rounded and stored as `astype`."""


class Fletcher32(NumcodecsBytesBytesCodec, codec_id="fletcher32"):
    """A Fletcher-32 checksum after the data."""


class GZip(NumcodecsBytesBytesCodec, codec_id="gzip"):
    """Gzip. `level` is from 0 to 9."""


class JenkinsLookup3(NumcodecsBytesBytesCodec, codec_id="jenkins_lookup3"):
    """A checksum by Jenkins before the data."""


class PCodec(NumcodecsArrayBytesCodec, codec_id="pcodec"):
    """Pcodec for numbers; needs the package pcodec."""


class PackBits(NumcodecsArrayArrayCodec, codec_id="packbits"):
    """Booleans as bits."""


class Quantize(NumcodecsArrayArrayCodec, codec_id="quantize"):
    """Floating-point numbers rounded to `digits` decimal digits."""


class Shuffle(NumcodecsBytesBytesCodec, codec_id="shuffle"):
    """Bytes of elements of `elementsize` bytes, regrouped by significance."""


class Zlib(NumcodecsBytesBytesCodec, codec_id="zlib"):
    """Zlib. `level` is from 0 to 9."""


class Zstd(NumcodecsBytesBytesCodec, codec_id="zstd"):
    """Zstandard. `level` and `checksum`."""
