"""How far two masks agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Return 2 |A and B| / (|A| + |B|) of two masks, 0 to 1; 1 if both are empty (Dice, Ecology 1945).

    Parameters
    ----------
    one, other
        Masks of one shape.
    """
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0
