"""Trying again: which errors go away by themselves, how long to wait, and a store that does so.

A request that can be repeated without harm is tried again after errors of the network and of
servers that are busy (429, 5xx), with growing pauses, until it works or the time is up. A
conditional write may have succeeded although its answer was lost; then what is stored is compared.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Self, TypeVar, final

from zarr_core.config import config
from zarr_core.errors import ReadOnlyError, StoreError
from zarr_core.storage.base import ByteRequest, OpenValue, Store, Value
from zarr_core.storage.wrappers import OneByOneStore
from zarr_core.threads.calls import POLL_SECONDS, current_call

S = TypeVar("S", bound=Store)
F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")

_logger = logging.getLogger("zarr_core")

_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})

# Errors of aiohttp, botocore, requests and urllib3 that are not also builtins, by name: the
# libraries need not be installed.
_NAMES = frozenset(
    {
        "ChunkedEncodingError",
        "ClientConnectionError",
        "ClientPayloadError",
        "ConnectTimeout",
        "ConnectionClosedError",
        "HTTPClientError",
        "IncompleteRead",
        "ProtocolError",
        "ReadTimeout",
        "ReadTimeoutError",
        "ResponseStreamingError",
        "ServerDisconnectedError",
    }
)


def http_status(error: BaseException | None) -> int | None:
    """Return the status of the HTTP answer that an error is about, if it is about one."""
    if error is None:
        return None
    for place in (error, getattr(error, "response", None)):
        for name in ("status", "status_code", "code"):
            status = getattr(place, name, None)
            if isinstance(status, int) and not isinstance(status, bool):
                return status
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status if isinstance(status, int) else None
    # s3fs says `OSError: Service Unavailable` of a 503, which only its cause still has.
    return http_status(error.__cause__) if isinstance(error, OSError) else None


def is_transient(error: BaseException | None) -> bool:
    """Return whether the same request may well succeed in a moment."""
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    status = http_status(error)
    if status is not None and 400 <= status < 600:
        return status in _STATUSES
    if any(kind.__name__ in _NAMES for kind in type(error).__mro__):
        return True
    return isinstance(error, ShortBodyError)


class ShortBodyError(StoreError):
    """Fewer bytes arrived than were announced or asked for."""


@final
@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and for how long, a request is tried again.

    >>> zarr.storage.RetryPolicy(attempts=3, total_seconds=60).attempts
    3
    """

    attempts: int = 6
    """Tries altogether; 1 is never again."""
    first_delay: float = 0.1
    """Seconds before the second try; later pauses are twice as long each, and random by half."""
    longest_delay: float = 5.0
    total_seconds: float | None = None
    """No try begins after this time; None is what the setting `io.retry_seconds` says."""

    def delays(self) -> Iterator[float]:
        """Yield the pauses between tries while there is time."""
        seconds = self.total_seconds
        end = time.monotonic() + (config.get("io.retry_seconds") if seconds is None else seconds)
        delay = self.first_delay
        for _ in range(self.attempts - 1):
            pause = delay * random.uniform(0.5, 1.0)  # noqa: S311 - against stampedes, not secret
            if time.monotonic() + pause >= end:
                return
            yield pause
            delay = min(2 * delay, self.longest_delay)

    def run(self, call: Callable[[], R]) -> R:
        """Return the result of `call`, tried again after errors that go away by themselves."""
        delays = self.delays()
        for tries in count(1):
            try:
                return call()
            except Exception as error:
                pause = _pause(error, delays, tries)
                if pause is None:
                    raise
            _sleep(pause)
        raise AssertionError

    async def run_async(self, call: Callable[[], Awaitable[R]]) -> R:
        """Return the result of awaiting `call()`; as `run`."""
        delays = self.delays()
        for tries in count(1):
            try:
                return await call()
            except Exception as error:
                pause = _pause(error, delays, tries)
                if pause is None:
                    raise
            await asyncio.sleep(pause)
        raise AssertionError


def _pause(error: Exception, delays: Iterator[float], tries: int) -> float | None:
    """Return how long to wait before the next try, or None when there is none."""
    if not is_transient(error):
        return None
    pause = next(delays, None)
    if pause is not None:
        _logger.info("a request is made again in %.2g s: %r", pause, error)
    elif tries > 1:
        error.add_note(
            f"tried {tries} times; a RetryPolicy, or the setting io.retry_seconds, says how long"
        )
    return pause


NO_RETRIES = RetryPolicy(attempts=1)
"""For backends that try again themselves."""


def _sleep(seconds: float) -> None:
    """Sleep, and wake when the call that this is part of was told to stop."""
    call = current_call()
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if call is not None:
            call.check()
        time.sleep(left if call is None else min(left, POLL_SECONDS))


class RetryStore(OneByOneStore[S]):
    """A store that tries again what a network or a busy server made fail.

    Errors that do not go away (permission, a missing bucket) are raised at once.

    Parameters
    ----------
    store
        The store that does the work.
    policy
        How often and for how long.

    Examples
    --------
    >>> patient = zarr.storage.RetryStore(zarr.storage.MemoryStore({"a": b"1"}))
    >>> patient.get("a")
    b'1'
    """

    def __init__(self, store: S, policy: RetryPolicy | None = None) -> None:
        super().__init__(store)
        self.policy: RetryPolicy = RetryPolicy() if policy is None else policy

    def _with_store(self, store: S) -> Self:
        return type(self)(store, self.policy)

    def _do(self, method: str, *args: Any, **kwargs: Any) -> Any:
        tried = False

        def attempt() -> Any:
            nonlocal tried
            again, tried = tried, True
            result = super(RetryStore, self)._do(method, *args, **kwargs)
            if method in ("list_prefix", "list_dir"):
                return iter(tuple(result))  # an error may come with any page
            if method in ("set_if_not_exists", "set_if_version"):
                # An earlier try may have stored it, and its answer was lost.
                return result or (again and self._store.get(args[0]) == args[1])
            return result

        result = self.policy.run(attempt)
        return _RetriedValue(result, self.policy) if method == "open_value" and result else result


class _RetriedValue:
    """A snapshot whose reads are tried again."""

    def __init__(self, opened: OpenValue, policy: RetryPolicy) -> None:
        self._opened, self._policy = opened, policy
        self.size, self.version = opened.size, opened.version

    def read(self, byte_range: ByteRequest | None = None) -> Value:
        """Return part of the value."""
        return self._policy.run(lambda: self._opened.read(byte_range))

    def close(self) -> None:
        """Close the snapshot of the store that does the work."""
        self._opened.close()


def translated(error: Exception, doing: str) -> Exception:
    """Return what to raise for the error of a backend: the builtin that says the same."""
    status = http_status(error)
    if isinstance(error, NotImplementedError):
        return ReadOnlyError(f"{doing}: the backend cannot do this")
    if status in (401, 403) and not isinstance(error, PermissionError):
        return PermissionError(f"{doing}: {error}")
    if isinstance(error, OSError):
        return error
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    return StoreError(f"{doing}: {type(error).__name__}: {error}{notes}")
