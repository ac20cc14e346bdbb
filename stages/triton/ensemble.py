"""Several models of one server, those of a cross-validation, say, and the mean of their outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.arrays import Array, empty
from stages.errors import InferenceError
from stages.triton.buffers import WriteWindows
from stages.triton.client import TritonPredictor
from stages.triton.types import ServedModel

if TYPE_CHECKING:
    from stages.triton.http import HttpPredictor


class EnsemblePredictor:
    """Asks several models about the same windows, and returns the mean of their outputs.

    Parameters
    ----------
    members
        Predictors of models whose tensors are alike; this one closes none of them.
    """

    def __init__(self, members: Sequence[TritonPredictor | HttpPredictor]) -> None:
        self._members = members

    @property
    def transport(self) -> str | None:
        """How windows travel; ``http``, or as for `stages.triton.client.TritonPredictor`."""
        return getattr(self._members[0], "transport", "http")

    def __call__(self, windows: Array) -> Array:
        """Return the mean of the models' outputs for windows, where the windows live.

        Parameters
        ----------
        windows
            In the shape of the models' input tensor.

        Raises
        ------
        InferenceError
            If the server does not answer in time, or refuses the windows.
        """
        pending = self.submit(windows)
        output = pending.result()
        pending.release()
        return output

    def submit(self, windows: Array) -> MeanOutput:
        """Send windows to each model, and return at once.

        Parameters
        ----------
        windows
            In the shape of the models' input tensor.
        """
        return MeanOutput([member.submit(windows) for member in self._members])

    def submit_into(self, shape: tuple[int, ...], write: WriteWindows, *, on_device: bool) -> MeanOutput:
        """Have windows written into the memory that each model reads, send them, and return at once.

        Parameters
        ----------
        shape
            Of the windows, in the layout of the models' input tensor.
        write
            Writes them into an array of this shape.
        on_device
            Whether it writes to the CUDA device.
        """
        return MeanOutput([_submit_into(each, shape, write, on_device) for each in self._members])


class MeanOutput:
    """The outputs of several models for the same windows, on their way.

    Parameters
    ----------
    pending
        That of each model.
    """

    def __init__(self, pending: Sequence[Any]) -> None:
        self._pending = pending

    def result(self) -> Array:
        """Wait for all outputs and return their mean, float32."""
        total = self._pending[0].result().astype(np.float32)
        for pending in self._pending[1:]:
            total += pending.result()
        total /= np.float32(len(self._pending))
        return total

    def cancel(self) -> None:
        """Cancel the requests that are still open."""
        for pending in self._pending:
            pending.cancel()

    def release(self) -> None:
        """Allow the memory of the outputs to be used again."""
        for pending in self._pending:
            if release := getattr(pending, "release", None):
                release()


def _submit_into(
    member: TritonPredictor | HttpPredictor, shape: tuple[int, ...], write: WriteWindows, on_device: bool
) -> Any:
    if isinstance(member, TritonPredictor):
        return member.submit_into(shape, write, on_device=on_device)
    windows = empty(shape, np.float32, on_device=on_device)
    write(windows)
    return member.submit(windows)


def joined(
    first: TritonPredictor | HttpPredictor,
    names: Sequence[str],
    connect_to: Callable[[str], TritonPredictor | HttpPredictor],
) -> tuple[EnsemblePredictor, list[ServedModel]]:
    """Return a predictor for a model and further ones of the same server, and what that says of the latter.

    Parameters
    ----------
    first
        The model that names them.
    names
        Of the others.
    connect_to
        Returns the predictor of one, which is ready.

    Raises
    ------
    InferenceError
        If one has other tensors than the first.
    """
    own = first.describe()
    members = [first]
    others: list[ServedModel] = []
    for name in names:
        members.append(connect_to(name))
        others.append(members[-1].describe())
        _require_alike(own, others[-1])
    return EnsemblePredictor(members), others


def _require_alike(first: ServedModel, other: ServedModel) -> None:
    for own, found in zip((*first.inputs, *first.outputs), (*other.inputs, *other.outputs), strict=True):
        if (own.datatype, own.shape) != (found.datatype, found.shape):
            raise InferenceError(
                f"model {first.name!r}: parameter ensemble names {other.name!r}, whose tensor "
                f"{found.name!r} is {found.datatype} {list(found.shape)}; expected {own.datatype} "
                f"{list(own.shape)}, as its own"
            )
