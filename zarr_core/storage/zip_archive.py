"""Zip archives: reading members at any position, writing new archives, and changes to one.

An archive that is being changed is not touched until it is flushed: new members go into a file
beside it, unchanged ones are copied there as they are, and the complete new archive then takes the
old one's name. So whenever a process is killed, the old archive or the new one is there, and
replaced values leave nothing behind. What Ctrl-C has interrupted is begun anew by the next flush:
an archive in which something is half written (`writable` is False) is only read from.

Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

import copy
import io
import os
import shutil
import stat
import struct
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import pairwise
from typing import IO, Any, Literal, NamedTuple, Protocol, Self, TypeAlias, final

from zarr_core.errors import InvalidKeyError, StoreError, ValueChangedError
from zarr_core.locks import ForkLock
from zarr_core.storage.base import (
    ByteRequest,
    Value,
    bounds_of,
    check_key,
)
from zarr_core.storage.directories import TEMP_SUFFIX, replace
from zarr_core.storage.local import READ, read_at

__all__ = ["Archive", "Member", "Session", "ZipMode"]

ZipMode: TypeAlias = Literal["r", "w", "a", "x"]
"""Read; write a new archive; change one, or write a new one; write one that must be new."""

PENDING_BYTES = 16 << 20
"""New values stay in memory up to this total, so that what is rewritten often takes no space."""

COPY_BYTES = 8 << 20


# --- reading archives ----------------------------------------------------------------------------


class Source(Protocol):
    """Where members are read from, at any position and by any thread."""

    def read_at(self, offset: int, size: int) -> bytes: ...


class _QuietFile(io.FileIO):
    """A file that its last reference closes: no Python code, which Ctrl-C could cut short."""

    _finalizing = False  # where the warning of files that were not closed looks


def open_file(function: Callable[..., int], *arguments: Any) -> io.FileIO:
    """Return a file to read from, which closes itself with the last reference.

    Parameters
    ----------
    function
        Returns a descriptor for `arguments`: `os.open`, `os.dup`.
    arguments
        What it is called with.
    """

    def opener(path: str, flags: int) -> int:
        (fd,) = map(function, *((argument,) for argument in arguments))
        return fd

    return _QuietFile("a file", "r", opener=opener)


@final
class File:
    """A file of our own; closed with the last reference, so never under a thread that reads."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self.fd: int = file.fileno()

    def read_at(self, offset: int, size: int) -> bytes:
        return read_at(self.fd, offset, size)


@final
class Stream:
    """A file object that was given to us, until an archive is written into it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.lock: ForkLock = ForkLock()
        self.is_replaced = False

    def read_at(self, offset: int, size: int) -> bytes:
        with self.lock:
            if self.is_replaced:
                raise ValueChangedError("the zip file was written anew while it was read")
            self.file.seek(offset)
            return self.file.read(size)


@final
class _Reader(io.RawIOBase):
    """A source as a file with a position of its own, for `zipfile`."""

    def __init__(self, source: Source, size: int, position: int = 0) -> None:
        super().__init__()
        self._source, self._size, self._position = source, size, position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        data = self._source.read_at(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


class Member(NamedTuple):
    """A stored value: the archive it is in, and its entry there."""

    archive: "Archive"
    info: zipfile.ZipInfo


class Archive:
    """The members of one archive, where they are and where they end."""

    def __init__(self, source: Source, name: str) -> None:
        self.source = source
        self.name: str = f"the zip file {name}"
        self.ends: dict[int, int] = {}

    def load(self, size: int) -> list[zipfile.ZipInfo]:
        """Return all entries of the archive, those that were replaced too."""
        if size == 0:
            return []
        try:
            with zipfile.ZipFile(io.BufferedReader(_Reader(self.source, size))) as archive:
                infos = archive.infolist()
                end: int = archive.start_dir
        except OSError:
            raise
        except Exception as error:  # of zipfile, and of what it uses
            raise StoreError(f"{self.name} is not a readable zip file: {error}") from error
        starts = sorted({info.header_offset for info in infos})
        if starts and starts[0] < 0:
            raise StoreError(f"{self.name} is not a readable zip file: a member begins before it")
        self.ends = dict(pairwise([*starts, end]))
        return infos

    def data_offset(self, info: zipfile.ZipInfo) -> int:
        """Return where a member's data begins, which only its local header says."""
        header = self.source.read_at(info.header_offset, 30)
        if len(header) != 30 or header[:4] != b"PK\3\4":
            raise StoreError(f"{self.name} has no member where {info.filename!r} should be")
        name_size, extra_size = struct.unpack("<HH", header[26:])
        offset: int = info.header_offset + 30 + name_size + extra_size
        return offset

    def read(self, info: zipfile.ZipInfo, byte_range: ByteRequest | None) -> Value:
        """Return a value or part of it; the checksum is only of the whole value."""
        start, end = bounds_of(
            byte_range, info.file_size, f"member {info.filename!r} of {self.name}"
        )
        if info.flag_bits & 1:
            raise StoreError(f"member {info.filename!r} of {self.name} is encrypted")
        offset = self.data_offset(info)
        if offset + info.compress_size > self.ends[info.header_offset]:
            raise StoreError(f"member {info.filename!r} of {self.name} is cut off")
        if info.compress_type == zipfile.ZIP_STORED:
            if info.file_size != info.compress_size:
                raise StoreError(f"member {info.filename!r} of {self.name} has two sizes")
            data = self.source.read_at(offset + start, end - start)
        else:
            data = self._decompress(info, offset, start, end)
        if len(data) != end - start:
            raise StoreError(f"member {info.filename!r} of {self.name} is cut off")
        if byte_range is None and zlib.crc32(data) != info.CRC:
            raise StoreError(f"member {info.filename!r} of {self.name} is damaged (checksum)")
        return data

    def _decompress(self, info: zipfile.ZipInfo, offset: int, start: int, end: int) -> bytes:
        reader: Any = _Reader(self.source, offset + info.compress_size, offset)
        try:
            with zipfile.ZipExtFile(reader, "r", info) as member:
                if start:
                    member.seek(start)  # decompresses what is before, in pieces
                return member.read(end - start)
        except StoreError:
            raise
        except Exception as error:  # each method has errors of its own
            raise StoreError(f"member {info.filename!r} of {self.name}: {error}") from error


# --- writing archives ----------------------------------------------------------------------------


@final
class NewArchive(Archive):
    """An archive that is being written, beside the one that it will replace."""

    def __init__(self, beside: str | None, compression: int, allow_zip64: bool) -> None:
        self.path: str | None = None
        self.writable: bool = False
        self._pid = os.getpid()
        self._file: Any = None
        self._zip: Any = None
        try:
            if beside is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
            else:
                directory, name = os.path.split(os.path.realpath(beside))  # what a link leads to
                os.makedirs(directory, exist_ok=True)
                self.path = f"{directory}/.{name}.{os.urandom(6).hex()}{TEMP_SUFFIX}"
                self._file = open(self.path, "x+b")  # noqa: SIM115 - closed by `close`
            name = beside or "that is being written"
            super().__init__(File(open_file(os.dup, self._file.fileno())), name)
            self._zip = zipfile.ZipFile(self._file, "w", compression, allow_zip64)
        except BaseException:
            self.close(remove=True)
            raise
        self.writable = True

    def add(self, key: str, value: bytes) -> zipfile.ZipInfo:
        """Append a value; return its entry."""
        self.writable = False
        info = zipfile.ZipInfo(key, time.localtime()[:6])
        info.external_attr = 0o644 << 16
        info.compress_type = self._zip.compression
        self._zip.writestr(info, value)
        self._zip.filelist.clear()  # `finish` says which entries count; zipfile warns of duplicates
        self._zip.NameToInfo.clear()
        self._file.flush()
        self.ends[info.header_offset] = self._zip.start_dir
        self.writable = True
        return info

    def copy_from(self, other: Archive, infos: Iterable[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
        """Append members of another archive as they are; return their new entries."""
        self.writable = False
        infos = sorted(infos, key=lambda info: info.header_offset)
        place = self._zip.start_dir
        self._file.seek(place)
        moved: list[zipfile.ZipInfo] = []
        first = last = shift = -1
        for info in infos:
            start = info.header_offset
            if start >= other.ends[start]:
                raise StoreError(f"{other.name} has no member where {info.filename!r} should be")
            if start >= last:  # not in what is to be copied already
                if start > last:
                    place += self._copy_bytes(other, first, last)
                    first, shift = start, place - start
                last = other.ends[start]
            entry = copy.copy(info)
            entry.header_offset = start + shift
            self.ends[entry.header_offset] = other.ends[start] + shift
            moved.append(entry)
        place += self._copy_bytes(other, first, last)
        self._zip.start_dir = place
        self.writable = True
        return moved

    def _copy_bytes(self, other: Archive, start: int, end: int) -> int:
        for offset in range(start, end, COPY_BYTES):
            size = min(COPY_BYTES, end - offset)
            data = other.source.read_at(offset, size)
            if len(data) != size:
                raise StoreError(f"{other.name} was cut while it was read")
            self._file.write(data)
        return end - start

    def finish(self, infos: list[zipfile.ZipInfo]) -> None:
        """Write the directory of the archive, which makes it complete, and save it to the disk."""
        self.writable = False
        self._zip.filelist = infos
        self._zip.NameToInfo = {info.filename: info for info in infos}
        try:
            self._zip.close()
        except zipfile.LargeZipFile as error:
            raise StoreError(f"{error}; allowZip64 allows them") from error
        self._file.flush()
        os.fsync(self._file.fileno())

    def copy_to(self, file: IO[bytes]) -> None:
        """Write the whole archive into a file object."""
        self._file.seek(0)
        file.seek(0)
        file.truncate()
        shutil.copyfileobj(self._file, file)
        file.flush()

    def close(self, *, remove: bool) -> None:
        """Give up the file, and its name too."""
        self.writable = False
        path, self.path = self.path, None
        try:
            if remove and path is not None:
                os.unlink(path)
        except FileNotFoundError:
            pass  # it has become the archive
        finally:
            if self._zip is not None:
                self._zip.fp = None  # or zipfile would write a directory when it is collected
            if self._file is not None:
                self._file.close()

    def __del__(self) -> None:
        # Its maker was interrupted before anybody else knew of it.
        if self.path is not None and self._pid == os.getpid():
            self.close(remove=True)


class _Identity(NamedTuple):
    """What tells whether a file is still the one that was opened."""

    device: int
    inode: int
    size: int
    changed: int

    @classmethod
    def of(cls, path: str) -> Self | None:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return None
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@final
class Session:
    """The members of an archive and the changes to it, shared by all views of one store."""

    target: str | IO[bytes]

    def __init__(
        self, target: str | IO[bytes], mode: ZipMode, compression: int, allow_zip64: bool
    ) -> None:
        self.target, self.mode = target, mode
        self._compression, self._allow_zip64 = compression, allow_zip64
        self.lock: ForkLock = ForkLock()
        if not isinstance(target, str):
            self._stream = Stream(target)
        self._pid = os.getpid()
        self.dirty: bool = mode in ("w", "x")
        self._values: dict[str, bytes | Member] | None = None
        self._sorted: tuple[str, ...] | None = None  # the keys, while none comes or goes
        self._others: list[Member] = []  # directories, and names that are no keys
        self._pending = 0
        self._new: NewArchive | None = None
        self._identity = self._identify()
        self._ours = self._identity
        self._told = False
        if mode == "x" and self._identity is not None:
            raise FileExistsError(f"{target} exists")
        if self.dirty:
            self._values = {}
        else:
            with suppress(FileNotFoundError):  # which is an error once something is read
                self.values()

    def _identify(self) -> _Identity | None:
        return _Identity.of(self.target) if isinstance(self.target, str) else None

    # --- reading ---

    def values(self) -> dict[str, bytes | Member]:
        """Return what each key has: bytes that are not written yet, or a member."""
        values = self._values
        if values is None:
            with self.lock:
                if self._values is None:
                    self._values, self._sorted = self._load(), None
                values = self._values
        return values

    def _load(self) -> dict[str, bytes | Member]:
        self._others = []
        archive, size = self._open()
        values: dict[str, bytes | Member] = {}
        for info in archive.load(size) if archive else ():
            assert archive is not None
            member = Member(archive, info)
            if _is_key(info.filename):
                values[info.filename] = member  # the last one counts
            else:
                self._others.append(member)
        return values

    def _open(self) -> tuple[Archive | None, int]:
        if not isinstance(self.target, str):
            name = type(self.target).__name__
            with self._stream.lock:
                return Archive(self._stream, name), self.target.seek(0, os.SEEK_END)
        try:
            source = File(open_file(os.open, self.target, *READ))
        except FileNotFoundError:
            if self.mode == "r":
                raise
            self._identity = None
            return None, 0
        status = os.fstat(source.fd)
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"{self.target} is not a file")
        if self.mode == "r" and status.st_size == 0:
            raise StoreError(f"{self.target} is empty, not a zip file")
        self._identity = _Identity.of(self.target)
        return Archive(source, self.target), status.st_size

    # --- writing ---

    def check_owner(self) -> None:
        """Raise in a forked child: two processes cannot both replace the archive."""
        if os.getpid() != self._pid:
            raise StoreError(f"the zip file {self.target} is written by the process that opened it")

    def keys(self) -> tuple[str, ...]:
        """Return all keys, sorted; called with the lock held."""
        values = self.values()
        if self._sorted is None:
            self._sorted = tuple(sorted(values))
        return self._sorted

    def set(self, key: str, value: bytes) -> None:
        """Change a value; called with the lock held."""
        self.check_owner()
        values = self.values()
        old = values.get(key)
        if old is None:
            self._sorted = None
        self.dirty, self._told = True, False
        values[key] = value  # in one step: others read meanwhile
        self._pending += len(value) - (len(old) if isinstance(old, bytes) else 0)
        if self._pending > PENDING_BYTES:
            self._spill()

    def discard(self, key: str) -> None:
        """Remove a value if it exists; called with the lock held."""
        self.check_owner()
        values = self.values()
        if key not in values:
            return
        self.dirty, self._told = True, False
        self._sorted = None
        old = values.pop(key)
        if isinstance(old, bytes):
            self._pending -= len(old)

    def _spill(self) -> None:
        """Write the values that are in memory to the new archive."""
        if self._new is None or not self._new.writable:
            if self._new is not None:
                self._new.close(
                    remove=True
                )  # its members can still be read, from a file without a name
            self._new = self._new_archive()
        values = self.values()
        for key, value in values.items():
            if isinstance(value, bytes):
                values[key] = Member(self._new, self._new.add(key, value))
        self._pending = 0

    def _new_archive(self) -> NewArchive:
        beside = self.target if isinstance(self.target, str) else None
        return NewArchive(beside, self._compression, self._allow_zip64)

    def flush(self) -> None:
        """Make the archive on the disk complete, if anything was changed."""
        if os.getpid() != self._pid:
            return
        with self.lock:
            if not self.dirty:
                return
            try:
                new = self._complete()
                conflict = self._publish(new)
            except BaseException:
                self._told = True
                if self._new is not None:
                    self._new.close(remove=True)
                raise
            kept = new.path
            self.dirty = False
            self._forget()
            new.close(remove=not conflict)
            self._identity = self._identify()
        if conflict:
            raise StoreError(f"{self.target} was changed by others: see {kept} for this store's")

    def end(self) -> None:
        """Close when nobody uses the store any more; what `flush` has raised is not told again."""
        told = self._told
        try:
            self.close()
        except OSError:
            if not told:
                raise

    def _forget(self) -> None:
        self._values, self._others, self._new, self._pending = None, [], None, 0

    def _complete(self) -> NewArchive:
        """Return the new archive with everything in it; the session still works if this fails."""
        self._spill()
        assert self._new is not None
        members = [m for m in self.values().values() if isinstance(m, Member)] + self._others
        own = [info for archive, info in members if archive is self._new]
        live = sum(self._new.ends[info.header_offset] - info.header_offset for info in own)
        written = max(self._new.ends.values(), default=0)
        rest = [member for member in members if member.archive is not self._new]
        if written - live > max(written // 4, 1 << 16):  # mostly values that were replaced since
            self._new.writable = False
            self._spill()
            rest, own = members, []
        new = self._new
        for archive in dict.fromkeys(member.archive for member in rest):
            own += new.copy_from(archive, [info for a, info in rest if a is archive])
        new.finish(own)
        # From here on nothing is read from the old archive, which may be a file object.
        self._others = [Member(new, info) for info in own if not _is_key(info.filename)]
        self._values = {i.filename: Member(new, i) for i in own if _is_key(i.filename)}
        self._sorted = None
        return new

    def _publish(self, new: NewArchive) -> bool:
        """Put a complete archive in its place; return True if somebody else has changed that."""
        if not isinstance(self.target, str):
            with self._stream.lock:  # others may be reading a member
                self._stream.is_replaced = True
                new.copy_to(self.target)
            self._stream = Stream(self.target)
            return False
        if self._identify() not in (self._identity, self._ours):
            return True
        assert new.path is not None
        path = new.path
        self._ours = _Identity.of(path)  # should Ctrl-C come when it has its place already
        if self._identity is not None:
            shutil.copymode(self.target, path)
        if os.name == "nt":  # where open files cannot be replaced
            self._forget()
            new.close(remove=False)
        replace(path, os.path.realpath(self.target))
        return False

    def close(self) -> None:
        """Flush, and release the files."""
        self.flush()
        with self.lock:
            if not self.dirty:
                self._forget()


def _is_key(name: str) -> bool:
    try:
        check_key(name)
    except InvalidKeyError:
        return False
    return True
