"""Under which key a chunk is stored: `c/0/1`, and the encodings that are registered as extensions.

Whatever the encoding, different chunks have different keys, no key is that of a document, and
`decode` takes nothing for a key that `encode` would not make. What a document says is refused when
that cannot be so.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/chunk-key-encodings/index.html and
https://github.com/zarr-developers/zarr-extensions/tree/main/chunk-key-encodings
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product, starmap
from typing import Any, Literal, NamedTuple, TypeAlias, final

from zarr_core.errors import MetadataValidationError, describe, unexpected
from zarr_core.metadata.chunk_grids import Coords
from zarr_core.metadata.documents import DOCUMENTS

MAX_WIDTH = 200
"""A number in a key is padded to at most this width: names of files have up to 255 bytes."""

MAX_SUFFIXES = 8
"""More suffixes on top of each other are refused."""

_NUMBER = re.compile(r"0|[1-9][0-9]{0,19}")
_ANY_NUMBER = "[0-9]+"


@final
@dataclass(frozen=True, slots=True)
class ChunkKeyEncoding:
    """How chunk coordinates become keys: `c/0/1` (default) or `0.1` (v2)."""

    name: Literal["default", "v2"] = "default"
    separator: Literal["/", "."] = "/"

    @property
    def prefix(self) -> str:
        """What stands before the coordinates of an array with dimensions."""
        return f"c{self.separator}" if self.name == "default" else ""

    @property
    def scalar_key(self) -> str:
        """The key of the only chunk of an array without dimensions."""
        return "c" if self.name == "default" else "0"

    @property
    def grammar(self) -> str:
        """A regular expression for the keys of arrays of any shape."""
        separator = re.escape(self.separator)
        first = "c" if self.name == "default" else _ANY_NUMBER
        return f"{first}(?:{separator}{_ANY_NUMBER})*"

    def check(self, ndim: int) -> None:
        """Do nothing: arrays of any number of dimensions have keys."""

    def encode(self, coords: Iterable[int]) -> str:
        """Return the key of a chunk, relative to its array."""
        text = self.separator.join(map(str, coords))
        return f"{self.prefix}{text}" if text else self.scalar_key

    def decode(self, key: str, ndim: int) -> Coords | None:
        """Return the coordinates that a relative key stands for, or None when it is no chunk."""
        if ndim == 0:
            return () if key == self.scalar_key else None
        if not key.startswith(self.prefix):
            return None
        numbers = key.removeprefix(self.prefix).split(self.separator)
        if len(numbers) != ndim or not all(map(_NUMBER.fullmatch, numbers)):
            return None
        return tuple(map(int, numbers))

    def to_json(self) -> dict[str, Any]:
        """Return the `chunk_key_encoding` of a format 3 document."""
        return {"name": self.name, "configuration": {"separator": self.separator}}

    to_dict = to_json


@final
@dataclass(frozen=True)
class SuffixKeys:
    """The keys of another encoding and a suffix: `c/0/1.tiff`; see `ChunkKeyEncoding`."""

    base: "KeyEncoding"
    suffix: str
    name: Literal["suffix", "zarrs.default_suffix"] = "suffix"

    def __post_init__(self) -> None:
        _check_literal(self.suffix)

    @property
    def separator(self) -> str:
        """The separator of the other encoding."""
        return self.base.separator

    @property
    def grammar(self) -> str:
        """A regular expression for the keys of arrays of any shape."""
        return self.base.grammar + re.escape(self.suffix)

    def check(self, ndim: int) -> None:
        """Raise `MetadataValidationError` if arrays of `ndim` dimensions cannot have such keys."""
        self.base.check(ndim)
        _check_key(self.encode((0,) * ndim))

    def encode(self, coords: Iterable[int]) -> str:
        """Return the key of a chunk, relative to its array."""
        return self.base.encode(coords) + self.suffix

    def decode(self, key: str, ndim: int) -> Coords | None:
        """Return the coordinates that a relative key stands for, or None when it is no chunk."""
        if not key.endswith(self.suffix):
            return None
        return self.base.decode(key.removesuffix(self.suffix), ndim)

    def to_json(self) -> dict[str, Any]:
        """Return the `chunk_key_encoding` of a format 3 document."""
        base: dict[str, Any] = {"base_encoding": self.base.to_json()}
        if self.name != "suffix":
            base = {"separator": self.base.separator}
        return {"name": self.name, "configuration": {"suffix": self.suffix, **base}}

    to_dict = to_json


@final
@dataclass(frozen=True)
class FanoutKeys:
    """Keys of which no directory has more than `max_children`: `d0/12/34/d1/5/c`."""

    max_children: int = 1001
    name: Literal["fanout"] = "fanout"
    separator: Literal["/"] = "/"
    grammar: str = rf"(?:d{_ANY_NUMBER}(?:/{_ANY_NUMBER})+/)*c"

    def check(self, ndim: int) -> None:
        """Do nothing: arrays of any number of dimensions have keys."""

    def encode(self, coords: Iterable[int]) -> str:
        """Return the key of a chunk, relative to its array."""
        base = self.max_children - 1
        parts: list[str] = []
        for dim, number in enumerate(coords):
            digits = [str(number % base)]
            while number := number // base:
                digits.append(str(number % base))
            parts += [f"d{dim}", *reversed(digits)]
        return "/".join([*parts, "c"])

    def decode(self, key: str, ndim: int) -> Coords | None:
        """Return the coordinates that a relative key stands for, or None when it is no chunk."""
        numbers: list[int] = []
        for part in key.split("/")[:-1]:
            if part == f"d{len(numbers)}":
                numbers.append(0)
            elif not numbers or not _NUMBER.fullmatch(part):
                return None
            else:
                numbers[-1] = numbers[-1] * (self.max_children - 1) + int(part)
                if numbers[-1] >= 1 << 63:
                    return None
        coords = tuple(numbers)
        return coords if len(coords) == ndim and self.encode(coords) == key else None

    def to_json(self) -> dict[str, Any]:
        """Return the `chunk_key_encoding` of a format 3 document."""
        return {"name": self.name, "configuration": {"max_children": self.max_children}}

    to_dict = to_json


class _Slot(NamedTuple):
    """A place in a template for a coordinate, or for all that have none (`dim` is None)."""

    dim: int | None
    width: int


class _Layout(NamedTuple):
    """A template for arrays of one number of dimensions."""

    text: str  # for str.format
    pattern: re.Pattern[str]
    dims: list[int]  # whose coordinates the groups of the pattern are


@final
@dataclass(frozen=True)
class TemplateKeys:
    """Keys made from a template such as `images/{-1}/{*:04}.jpeg`; see `ChunkKeyEncoding`."""

    format: str
    rest_separator: str | None = None
    """What stands between the coordinates that `{*}` is for."""
    name: Literal["template"] = "template"

    @property
    def separator(self) -> str:
        """What stands between the coordinates that `{*}` is for."""
        return self.rest_separator or "/"

    @property
    def grammar(self) -> str:
        """A regular expression for the keys of arrays of any shape."""
        rest = f"{_ANY_NUMBER}(?:{re.escape(self.separator)}{_ANY_NUMBER})*"
        return "".join(
            re.escape(part) if isinstance(part, str) else rest if part.dim is None else _ANY_NUMBER
            for part in _parts(self.format)
        )

    def check(self, ndim: int) -> None:
        """Raise `MetadataValidationError` if arrays of `ndim` dimensions cannot have such keys."""
        _check_key(_layout(self, ndim).text.format(*[0] * ndim))

    def encode(self, coords: Iterable[int]) -> str:
        """Return the key of a chunk, relative to its array."""
        numbers = tuple(coords)
        return _layout(self, len(numbers)).text.format(*numbers)

    def decode(self, key: str, ndim: int) -> Coords | None:
        """Return the coordinates that a relative key stands for, or None when it is no chunk."""
        layout = _layout(self, ndim)
        match = layout.pattern.fullmatch(key)
        if match is None:
            return None
        found = dict(zip(layout.dims, map(int, match.groups()), strict=True))
        coords = tuple(found[dim] for dim in range(ndim))
        is_key = all(k < 1 << 63 for k in coords) and layout.text.format(*coords) == key
        return coords if is_key else None

    def to_json(self) -> dict[str, Any]:
        """Return the `chunk_key_encoding` of a format 3 document."""
        rest = {} if self.rest_separator is None else {"separator": self.rest_separator}
        return {"name": self.name, "configuration": {"format": self.format, **rest}}

    to_dict = to_json


KeyEncoding: TypeAlias = ChunkKeyEncoding | SuffixKeys | FanoutKeys | TemplateKeys
"""How chunk coordinates become keys."""


# --- templates -------------------------------------------------------------------------------------

_PART = re.compile(
    r"(?P<brace>\{\{|\}\})|\{(?P<index>\*|0|-?[1-9][0-9]?)(?::0(?P<width>[0-9]{1,3}))?\}"
    r"|(?P<literal>[^{}]+)"
)


def _parts(template: str) -> list[str | _Slot]:
    """Return literal text and slots of a template, in turns."""
    parts: list[str | _Slot] = []
    position = 0
    while position < len(template):
        found = _PART.match(template, position)
        if found is None:
            raise MetadataValidationError(
                f"template {describe(template)}: expected {{0}}, {{-1}}, {{*}}, {{0:05}} or a "
                f"doubled brace at character {position}"
            )
        position = found.end()
        if found["index"] is None:
            text = found["literal"] or found["brace"][0]
            last = parts.pop() if parts and isinstance(parts[-1], str) else ""
            parts.append(f"{last}{text}")
            continue
        width = int(found["width"] or 0)
        if width > MAX_WIDTH:
            raise MetadataValidationError(
                f"template {describe(template)}: numbers of more than {MAX_WIDTH} digits"
            )
        parts.append(_Slot(None if found["index"] == "*" else int(found["index"]), width))
    return parts


@lru_cache(256)
def _layout(keys: TemplateKeys, ndim: int) -> _Layout:
    """Return a template for `ndim` dimensions; raise `MetadataValidationError` if it has no keys."""
    what = f"template {describe(keys.format)} for {ndim} dimensions"
    parts = _parts(keys.format)
    slots = [part for part in parts if isinstance(part, _Slot)]
    named = [slot.dim + ndim * (slot.dim < 0) for slot in slots if slot.dim is not None]
    rest = [dim for dim in range(ndim) if dim not in named]
    n_rests = len(slots) - len(named)
    if len(set(named)) < len(named) or any(not 0 <= dim < ndim for dim in named) or n_rests > 1:
        raise MetadataValidationError(f"{what}: expected each dimension once")
    if bool(rest) != bool(n_rests) or not slots:
        raise MetadataValidationError(f"{what}: expected each dimension, or {{*}} for the others")
    if n_rests and keys.rest_separator is None:
        raise MetadataValidationError(f"{what}: {{*}} needs a separator")
    pieces: list[tuple[str, int, int]] = []  # literal text before a number, dimension, width
    literal = ""
    for part in parts:
        if isinstance(part, str):
            literal += part
            continue
        for dim in rest if part.dim is None else [part.dim % ndim]:
            pieces.append((literal, dim, part.width))
            literal = keys.separator
        literal = ""
    if any(not re.search("[^0-9]", before) for before, _, _ in pieces[1:]):
        raise MetadataValidationError(
            f"{what}: between two numbers must be more than digits, or chunks share a key"
        )
    text, pattern = "", ""
    for before, dim, width in pieces:
        _check_literal(before)
        text += f"{_escaped(before)}{{{dim}:0{width}}}"
        pattern += rf"{re.escape(before)}([0-9]{{1,{MAX_WIDTH}}})"
    _check_literal(literal)
    return _Layout(
        text + _escaped(literal),
        re.compile(pattern + re.escape(literal)),
        [dim for _, dim, _ in pieces],
    )


def _escaped(literal: str) -> str:
    return literal.replace("{", "{{").replace("}", "}}")


# --- keys that a store can have --------------------------------------------------------------------


def _check_literal(text: object) -> None:
    """Raise `MetadataValidationError` for text that a document puts into keys and must not."""
    if not isinstance(text, str):
        raise unexpected("text in chunk keys", "text", text)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise MetadataValidationError(f"{describe(text)} in chunk keys is no text") from None
    if "\\" in text or "\0" in text or any(name in text for name in DOCUMENTS):
        raise MetadataValidationError(
            f"chunk keys must not have {describe(text)} in them: no backslash, no NUL, and no name "
            "of a document"
        )


def _check_key(key: str) -> None:
    """Raise `MetadataValidationError` for a key that is no path inside its array."""
    if any(part in ("", ".", "..") for part in key.split("/")):
        raise MetadataValidationError(f"chunk keys such as {describe(key)} are no paths")
    _check_literal(key)


# --- documents -------------------------------------------------------------------------------------


def parse_key_encoding(name: str, configuration: Mapping[str, Any], depth: int = 1) -> KeyEncoding:
    """Return the encoding that a format 3 document describes; raise `MetadataValidationError`."""
    match name:
        case "default" | "v2":
            if len(configuration) > ("separator" in configuration):
                _check_fields(configuration, "separator")
            separator = configuration.get("separator", "/" if name == "default" else ".")
            if separator not in ("/", "."):
                raise unexpected("chunk_key_encoding.separator", "'/' or '.'", separator)
            return _KEY_ENCODINGS[name, separator]
        case "suffix":
            _check_fields(configuration, "suffix", "base_encoding", "base-encoding")
            # Drafts had a hyphen, and default keys when it was left out.
            base = configuration.get("base_encoding", configuration.get("base-encoding", "default"))
            if depth > MAX_SUFFIXES:
                raise MetadataValidationError(f"more than {MAX_SUFFIXES} suffixes")
            return SuffixKeys(
                parse_key_encoding(*_base(base), depth + 1), configuration.get("suffix", None)
            )
        case "zarrs.default_suffix":
            _check_fields(configuration, "suffix", "separator")
            rest = {key: value for key, value in configuration.items() if key != "suffix"}
            return SuffixKeys(
                parse_key_encoding("default", rest), configuration.get("suffix", None), name
            )
        case "fanout":
            _check_fields(configuration, "max_children")
            most = configuration.get("max_children", 1001)
            if type(most) is not int or not 3 < most < 1 << 63:
                raise unexpected("chunk_key_encoding.max_children", "an integer above 3", most)
            return FanoutKeys(most)
        case "template":
            # Its text calls the field `template`, its schema, examples and implementations `format`.
            _check_fields(configuration, "format", "template", "separator")
            template = configuration.get("format", configuration.get("template"))
            separator = configuration.get("separator")
            if not isinstance(template, str) or not isinstance(separator, str | None):
                raise unexpected("chunk_key_encoding.format", "text", template)
            return TemplateKeys(template, separator)
    known = "'default', 'v2', 'suffix', 'fanout' or 'template'"
    raise unexpected("chunk_key_encoding", known, name)


def _base(value: object) -> tuple[str, Mapping[str, Any]]:
    match value:
        case str():
            return value, {}
        case {"name": str(name), **rest} if rest.keys() <= {"configuration"}:
            settings = rest.get("configuration", {})
            if isinstance(settings, Mapping):
                return name, settings
    raise unexpected("chunk_key_encoding.base_encoding", "a chunk key encoding", value)


def _check_fields(configuration: Mapping[str, Any], *allowed: str) -> None:
    if not configuration.keys() <= set(allowed):
        unknown = min(configuration.keys() - set(allowed))
        raise MetadataValidationError(f"chunk_key_encoding: unknown field {describe(unknown)}")


_KEY_ENCODINGS: Mapping[tuple[str, str], ChunkKeyEncoding] = {
    (encoding.name, encoding.separator): encoding
    for encoding in starmap(ChunkKeyEncoding, product(("default", "v2"), ("/", ".")))
}
