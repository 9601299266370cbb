"""Times as fill values: which fit a data type.

Values are never rounded or wrapped: for what does not fit the answer is None.
"""

from datetime import date, timedelta
from typing import Any

import numpy as np

from zarr_core.metadata.small_types import Dtype

NAT = -(2**63)
"""The number that stands for no time."""

_WHOLE: tuple[Any, ...] = (int, np.integer)


def time_of(dtype: Dtype, count: int) -> Any:
    """Return a number of units as a scalar, None if it has more than 64 bits."""
    is_valid = NAT <= count < 2**63
    return np.array(count, np.int64).view(dtype.newbyteorder("="))[()] if is_valid else None


def fitting_time(dtype: Dtype, value: Any) -> Any:
    """Return a time, text or a number of units as a scalar, None if the unit cannot express it."""
    if isinstance(value, str) and value == "NaT":
        return time_of(dtype, NAT)
    if isinstance(value, _WHOLE) and type(value) not in (bool, np.timedelta64):
        return time_of(dtype, int(value))
    if getattr(value, "tzinfo", None) is not None:  # NumPy has no time zones
        return None
    to_numpy = getattr(value, "to_numpy", None)  # NumPy would cut pandas' times to microseconds
    value = value if to_numpy is None else to_numpy()
    try:
        if isinstance(value, str | date if dtype.kind == "M" else timedelta):
            value = dtype.type(value)
        if type(value) is not dtype.type:
            return None
        if np.isnat(value) or np.datetime_data(value.dtype)[0] == "generic":
            return time_of(dtype, int(value.view(np.int64)))
        result = value.astype(dtype)
        # NumPy drops what is finer than the unit, may wrap around, and keeps the unit for none.
        is_exact = result.dtype == dtype and result.astype(value.dtype) == value
        return result if is_exact else None
    except (TypeError, ValueError, OverflowError):
        return None
