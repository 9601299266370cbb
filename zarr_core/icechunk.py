"""Icechunk: changes that are committed, and made again when others were faster."""

import random
import time
from collections.abc import Callable
from typing import Any, Final

from icechunk import ConflictDetector, ConflictError, RebaseFailedError, Repository

from zarr_core.storage import Store
from zarr_core.storage.adapters import from_zarr_store
from zarr_core.threads.twins import async_twin

__all__ = ["commit", "commit_async"]

LONGEST_WAIT = 1.0
"""Seconds to wait at most before a change is made again."""


def commit(
    repository: Repository,
    change: Callable[[Store], object],
    message: str,
    *,
    branch: str = "main",
    attempts: int = 20,
    solver: Any = None,
    metadata: dict[str, Any] | None = None,
) -> str:
    """Make a change in a session of its own and commit it; return the id of the snapshot.

    When others have committed in the meantime, changes of other nodes and chunks are left as they are.
    Where they have changed the same, `change` is called again, with what is stored then. So a change
    that depends on what was there (a counter, an append) loses nothing.

    Raises what `change` raises, in which case nothing is committed, and `icechunk.RebaseFailedError`
    when others were faster at every attempt.

    Parameters
    ----------
    repository
        The repository.
    change
        Gets a store of the session; it may be called several times.
    message, metadata
        Of the commit.
    branch
        Where it goes.
    attempts
        How often `change` is called at most.
    solver
        Icechunk's solver for conflicts; by default none is solved but by calling `change` again.
    """
    solver = ConflictDetector() if solver is None else solver
    wait = 0.01
    for left in reversed(range(attempts)):
        session = repository.writable_session(branch)
        change(from_zarr_store(session.store))
        try:
            snapshot: str = session.commit(message, metadata, rebase_with=solver)
            return snapshot
        except (ConflictError, RebaseFailedError):
            if not left:
                raise
        time.sleep(wait * random.random())  # noqa: S311
        wait = min(2 * wait, LONGEST_WAIT)
    raise ValueError(f"attempts must be at least 1, not {attempts}")


commit_async: Final = async_twin(commit)
