"""Codecs by name, where programs for zarr-python look for them."""

from zarr_core.codecs import Codec, codec_from_dict
from zarr_core.codecs import get_codec_class as _get
from zarr_core.codecs import register_codec as _register

__all__ = ["codec_from_dict", "get_codec_class", "register_codec"]


def register_codec(key: str, codec_cls: type[Codec], *, qualname: str | None = None) -> None:
    """Make a class the codec of a name in metadata documents; `qualname` means nothing here."""
    _register(key, codec_cls)


def get_codec_class(key: str, reload_config: bool = False) -> type[Codec]:
    """Return the class of a codec; raise `UnknownCodecError`. `reload_config` means nothing here."""
    return _get(key)
