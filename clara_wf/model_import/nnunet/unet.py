"""The networks of nnU-Net as ONNX, from their plan and weights; no PyTorch is needed to make them.

nnU-Net has two: a U-Net of plain convolutions, and one whose encoder has residual blocks. Both follow from a
few lists of numbers in the plan, so that they are written down here operator by operator. Each weight that a
network of such a plan has must be there and be used once; anything else is another network, and refused.

References
----------
dynamic-network-architectures 0.4 (Apache-2.0), ``architectures/unet.py``, whose names of the weights these
are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clara_wf.model_import.onnx_graph import OnnxGraph
from stages.errors import InputError

Weights = Mapping[str, Callable[[], NDArray[np.float32]]]
"""By the name of a weight, what reads it."""


@dataclass(frozen=True, kw_only=True)
class UNet:
    """What a network of nnU-Net is made of.

    Attributes
    ----------
    is_residual
        Whether its encoder has residual blocks.
    strides
        Of each stage, one number an axis.
    blocks
        Convolutions, or residual blocks, of each stage of the encoder.
    decoder_convolutions
        Of each stage of the decoder, the lowest resolution first.
    epsilon
        Of the instance normalisation.
    slope
        Of the leaky rectifier below zero.
    """

    is_residual: bool
    strides: tuple[tuple[int, ...], ...]
    blocks: tuple[int, ...]
    decoder_convolutions: tuple[int, ...]
    epsilon: float = 1e-5
    slope: float = 0.01

    @property
    def size_step(self) -> tuple[int, ...]:
        """What sizes of windows must be multiples of, by axis."""
        return tuple(int(each) for each in np.prod(np.array(self.strides), axis=0))


def add_unet(graph: OnnxGraph, image: str, net: UNet, weights: Weights) -> tuple[str, int]:
    """Add a network to a graph, and return the name of its output and the number of its channels.

    Parameters
    ----------
    graph
        What it becomes part of.
    image
        Name of its input.
    net
        What it is made of.
    weights
        As a checkpoint names them.

    Raises
    ------
    InputError
        If a weight is missing, or one is left over.
    """
    return _Writer(graph, net, weights).unet(image)


class _Writer:
    """Writes one network; remembers which weights it has used."""

    def __init__(self, graph: OnnxGraph, net: UNet, weights: Weights) -> None:
        self._graph, self._net = graph, net
        self._weights = {_plain(name): read for name, read in weights.items()}
        self._left = {name for name in self._weights if not _is_repeated(name)}

    def unet(self, x: str) -> tuple[str, int]:
        skips = list(self._residual_encoder(x) if self._net.is_residual else self._plain_encoder(x))
        x = skips[-1]
        for at, count in enumerate(self._net.decoder_convolutions):
            x = self._transposed(x, f"decoder.transpconvs.{at}", self._net.strides[-1 - at])
            x = self._graph.node("Concat", x, skips[-2 - at], axis=1)
            for block in range(count):
                x = self._block(x, f"decoder.stages.{at}.convs.{block}")
        last = f"decoder.seg_layers.{len(self._net.decoder_convolutions) - 1}"
        channels = len(self._read(f"{last}.weight", again=True))
        x = self._conv(x, last, self._ones)
        deep = {name for name in self._left if name.startswith("decoder.seg_layers.")}  # of training alone
        if more := sorted(self._left - deep):
            raise InputError(
                f"the checkpoint has {len(more)} weights that the plan's network has not, such as {more[0]}; "
                f"its trainer built another network, which is not supported: export it as ONNX, and add that"
            )
        return x, channels

    @property
    def _ones(self) -> tuple[int, ...]:
        return (1,) * len(self._net.strides[0])

    def _plain_encoder(self, x: str) -> Iterator[str]:
        for stage, (count, strides) in enumerate(zip(self._net.blocks, self._net.strides, strict=True)):
            for block in range(count):
                name = f"encoder.stages.{stage}.0.convs.{block}"
                x = self._block(x, name, strides if block == 0 else self._ones)
            yield x

    def _residual_encoder(self, x: str) -> Iterator[str]:
        x = self._block(x, "encoder.stem.convs.0")
        for stage, (count, strides) in enumerate(zip(self._net.blocks, self._net.strides, strict=True)):
            for block in range(count):
                name = f"encoder.stages.{stage}.blocks.{block}"
                x = self._residual(x, name, strides if block == 0 else self._ones)
            yield x

    def _residual(self, x: str, name: str, strides: Sequence[int]) -> str:
        beside, place = x, 0
        if tuple(strides) != self._ones:
            beside = self._graph.node("AveragePool", x, kernel_shape=list(strides), strides=list(strides))
            place = 1
        if f"{name}.skip.{place}.conv.weight" in self._weights:
            beside = self._normed(
                self._conv(beside, f"{name}.skip.{place}.conv", self._ones), f"{name}.skip.{place}"
            )
        x = self._block(x, f"{name}.conv1", strides)
        x = self._normed(self._conv(x, f"{name}.conv2.conv", self._ones), f"{name}.conv2")
        return self._rectified(self._graph.node("Add", x, beside))

    def _block(self, x: str, name: str, strides: Sequence[int] | None = None) -> str:
        return self._rectified(self._normed(self._conv(x, f"{name}.conv", strides or self._ones), name))

    def _conv(self, x: str, name: str, strides: Sequence[int]) -> str:
        return self._graph.conv(x, self._read(f"{name}.weight"), self._bias(name), strides=strides)

    def _transposed(self, x: str, name: str, strides: Sequence[int]) -> str:
        weight, bias = self._read(f"{name}.weight"), self._bias(name)
        return self._graph.conv(x, weight, bias, strides=strides, is_transposed=True)

    def _normed(self, x: str, name: str) -> str:
        scale, bias = (self._graph.constant(self._read(f"{name}.norm.{each}")) for each in ("weight", "bias"))
        return self._graph.node("InstanceNormalization", x, scale, bias, epsilon=self._net.epsilon)

    def _rectified(self, x: str) -> str:
        return self._graph.node("LeakyRelu", x, alpha=self._net.slope)

    def _bias(self, name: str) -> NDArray[np.float32] | None:
        return self._read(f"{name}.bias") if f"{name}.bias" in self._weights else None

    def _read(self, name: str, *, again: bool = False) -> NDArray[np.float32]:
        if name not in self._weights:
            raise InputError(
                f"the checkpoint has no weight {name}, which the plan's network needs; are plans.json and "
                f"checkpoint of one training?"
            )
        if not again:
            self._left.discard(name)
        return self._weights[name]().astype(np.float32)


def _plain(name: str) -> str:
    """Return the name of a weight without what compiling and training in parallel put before it."""
    return name.removeprefix("_orig_mod.").removeprefix("module.").removeprefix("_orig_mod.")


def _is_repeated(name: str) -> bool:
    """Return whether a weight is there under a second name: of the decoder's encoder, or a block's list."""
    return name.startswith("decoder.encoder.") or ".all_modules." in name
