"""The loops of `stages.windows.blending` for the host."""

from __future__ import annotations

import numpy as np
from numba import types
from numpy.typing import NDArray

from stages.compute.numba_cache import compiled, read_only
from stages.compute.strides import flat
from stages.compute.threads import in_parts

_FLAT, _READ, _INDEX = types.float32[::1], read_only(types.float32, 1, "C"), types.int64
_SIZES, _THREE, _TWO = (types.UniTuple(_INDEX, n) for n in (4, 3, 2))

Floats = NDArray[np.float32]
Steps = tuple[int, ...]


def add_weighted(sums: Floats, scores: Floats, weights: Floats) -> None:
    """Add scores times weights to sums.

    Parameters
    ----------
    sums, scores
        Shape (classes, slices, rows, columns); the rows of `sums` lie in order.
    weights
        Shape (slices, rows, columns).
    """
    given = (*flat(sums, writeable=True), *flat(np.ascontiguousarray(scores)), *flat(weights))
    in_parts(lambda start, stop: _add(scores.shape, *given, start, stop), len(weights), parts_a_core=1)


def divide(sums: Floats, weights: Floats, out: Floats) -> bool:
    """Divide sums by weights, into `out`, and return whether all that came out are finite numbers.

    Parameters
    ----------
    sums
        Shape (classes, slices, rows, columns), its rows in order.
    weights
        Shape (slices, rows, columns), its rows in order.
    out
        Of the shape of `sums`, its rows in order.
    """
    odd = np.zeros(len(weights), np.bool_)
    given = (*flat(sums), *flat(weights), *flat(out, writeable=True))
    in_parts(lambda start, stop: _divide(sums.shape, *given, odd, start, stop), len(odd), parts_a_core=1)
    return not odd.any()


@compiled(types.void(_SIZES, _FLAT, _THREE, _READ, _THREE, _READ, _TWO, _INDEX, _INDEX))
def _add(
    sizes: Steps,
    sums: Floats,
    sum_steps: Steps,
    scores: Floats,
    score_steps: Steps,
    weights: Floats,
    weight_steps: Steps,
    start: int,
    stop: int,
) -> None:
    classes, _, rows, columns = sizes
    for z in range(start, stop):
        for n in range(classes):
            for y in range(rows):
                begin = n * sum_steps[0] + z * sum_steps[1] + y * sum_steps[2]
                into = sums[begin : begin + columns]
                begin = n * score_steps[0] + z * score_steps[1] + y * score_steps[2]
                score = scores[begin : begin + columns]
                begin = z * weight_steps[0] + y * weight_steps[1]
                weight = weights[begin : begin + columns]
                for x in range(columns):
                    into[x] += score[x] * weight[x]


@compiled(types.void(_SIZES, _READ, _THREE, _READ, _TWO, _FLAT, _THREE, types.bool_[::1], _INDEX, _INDEX))
def _divide(
    sizes: Steps,
    sums: Floats,
    sum_steps: Steps,
    weights: Floats,
    weight_steps: Steps,
    out: Floats,
    out_steps: Steps,
    odd: NDArray[np.bool_],
    start: int,
    stop: int,
) -> None:
    classes, _, rows, columns = sizes
    for z in range(start, stop):
        for n in range(classes):
            for y in range(rows):
                begin = n * sum_steps[0] + z * sum_steps[1] + y * sum_steps[2]
                given = sums[begin : begin + columns]
                begin = z * weight_steps[0] + y * weight_steps[1]
                weight = weights[begin : begin + columns]
                begin = n * out_steps[0] + z * out_steps[1] + y * out_steps[2]
                into = out[begin : begin + columns]
                finite = True
                for x in range(columns):
                    into[x] = given[x] / weight[x]
                    finite &= abs(into[x]) < np.float32(np.inf)
                if not finite:
                    odd[z] = True
