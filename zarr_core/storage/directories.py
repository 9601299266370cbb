"""Directories of the local file system: their files, their real paths, and locks of them."""

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

__all__ = [
    "DIRECTORY",
    "LOCK_NAME",
    "TEMP_SUFFIX",
    "WINDOWS",
    "delete_below",
    "entries",
    "forget_links",
    "forget_path",
    "links_below",
    "make_directory",
    "real_path",
    "replace",
    "rmdir",
    "walk",
    "while_locked",
]

WINDOWS = sys.platform == "win32"

TEMP_SUFFIX = ".zarr-tmp~"
"""Ends the names of files that are being written; such names are never keys."""

LOCK_NAME = f"lock{TEMP_SUFFIX}"
"""A file to lock where a directory itself cannot be locked."""

DIRECTORY = (os.O_RDONLY | getattr(os, "O_CLOEXEC", 0),)
_LOCK_FILE = (os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0),)

if sys.platform == "win32":
    import msvcrt

    LOCK_EX, LOCK_UN = 2, 8

    def flock(fd: int, operation: int) -> None:
        """Lock a file; closing it is enough to unlock it."""
        if operation == LOCK_EX:
            msvcrt.locking(fd, msvcrt.LK_LOCK, 1)

elif sys.platform == "emscripten":
    LOCK_EX, LOCK_UN = 2, 8

    def flock(fd: int, operation: int) -> None:
        """Do nothing: in WebAssembly there is one process."""

else:
    from fcntl import LOCK_EX, LOCK_UN, flock


# --- making and locking ----------------------------------------------------------------------------


def make_directory(path: str) -> None:
    """Make a directory and those above it; perhaps others remove them meanwhile."""
    try:
        os.makedirs(path, exist_ok=True)
    except FileNotFoundError:
        pass  # a parent was removed meanwhile; the caller tries again
    except FileExistsError as error:
        if os.path.lexists(path) and not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, "a parent is not a directory", path) from error


def replace(source: str, target: str) -> None:
    """Give a file the name of another one, whose place it takes."""
    if sys.platform == "emscripten":
        # Emscripten 3.1 (Pyodide 0.27) shows what was replaced again once the new file is deleted.
        with suppress(FileNotFoundError):
            os.unlink(target)
    os.replace(source, target)


def while_locked(path: str, change: Callable[[], bool]) -> bool:
    """Call `change` while the directory of `path` is locked against threads and processes.

    The lock is of the directory itself, or of a file in it where directories cannot be locked.
    """
    directory, sidecar = path.rpartition("/")[0], WINDOWS
    while True:
        fd = -1
        try:
            try:
                name = f"{directory}/{LOCK_NAME}" if sidecar else directory
                (fd,) = map(os.open, (name,), _LOCK_FILE if sidecar else DIRECTORY, (0o666,))
                flock(fd, LOCK_EX)
            except FileNotFoundError:
                make_directory(directory)
                continue
            except OSError:  # such as NFS, where only files that are open for writing can be locked
                if sidecar or fd == -1:
                    raise
                sidecar = True
                continue
            if sidecar or _is_there(fd, directory):
                return change()
            # the directory was removed and made again while we waited
        finally:
            if fd != -1:
                try:
                    flock(fd, LOCK_UN)  # a child forked meanwhile has the file too
                except OSError:
                    pass  # it could not be locked
                finally:
                    os.close(fd)


def _is_there(fd: int, directory: str) -> bool:
    try:
        return os.path.samestat(os.stat(directory), os.fstat(fd))
    except FileNotFoundError:
        return False


# --- real paths ------------------------------------------------------------------------------------

_real_directories: dict[str, str] = {}
"""Directories without links in their paths, by path: what two paths to one have in common."""

REAL_DIRECTORIES = 1 << 14
"""So many are remembered."""


def forget_links() -> None:
    """Look for links again: one was removed."""
    _real_directories.clear()


def forget_path(path: str) -> None:
    """Look for links again if a link to a directory was removed here."""
    if path in _real_directories:
        forget_links()


def real_path(path: str) -> str:
    """Return a path in which links above its last part are resolved."""
    directory, _, name = path.rpartition("/")
    return f"{_real_directories.get(directory) or _real_directory(directory)}/{name}"


def _real_directory(path: str) -> str:
    """Return a directory's path without links, from that of its parent: one call of the system."""
    if not path.strip("/"):
        return ""  # the root, as it is before a slash
    try:
        mode = os.lstat(path).st_mode
    except OSError:  # not made yet
        return real_path(path)
    real = os.path.realpath(path).replace(os.sep, "/") if stat.S_ISLNK(mode) else real_path(path)
    if len(_real_directories) >= REAL_DIRECTORIES:
        _real_directories.clear()
    _real_directories[path] = real
    return real


# --- what is below ---------------------------------------------------------------------------------


def entries(directory: str) -> "list[os.DirEntry[str]]":
    """Return what is in a directory, without unfinished files; nothing if it does not exist."""
    try:
        with os.scandir(directory) as found:
            return [entry for entry in found if not entry.name.endswith(TEMP_SUFFIX)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def walk(directory: str, start: str) -> Iterator[str]:
    """Yield the paths of all files below a directory, each with `start` in front."""
    for entry in entries(directory):
        try:
            below = entry.is_dir()
        except FileNotFoundError:
            continue
        if not below:
            yield start + entry.name
        elif not (entry.is_symlink() and _leads_up(entry.path)):
            yield from walk(entry.path, f"{start}{entry.name}/")


def links_below(directory: str, start: str = "") -> Iterator[str]:
    """Yield the paths of links to directories below a directory, each with `start` in front."""
    for entry in entries(directory):
        if entry.is_dir(follow_symlinks=False):
            yield from links_below(entry.path, f"{start}{entry.name}/")
        elif entry.is_symlink() and os.path.isdir(entry.path):
            yield start + entry.name


def _leads_up(link: str) -> bool:
    """Return whether a link leads to a directory that contains it."""
    target = os.path.realpath(link)
    return f"{os.path.realpath(os.path.dirname(link))}/".startswith(f"{target.rstrip('/')}/")


def delete_below(directory: str, *, files: bool) -> None:
    """Remove the directories below one that are (or without `files`, were) empty; follow no link."""
    for entry in entries(directory):
        if entry.is_dir(follow_symlinks=False):
            delete_below(entry.path, files=files)
            rmdir(entry.path)
        elif files:
            with suppress(FileNotFoundError):
                os.unlink(entry.path)


def rmdir(directory: str) -> None:
    """Remove a directory if it is there and empty."""
    try:
        os.rmdir(directory)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
