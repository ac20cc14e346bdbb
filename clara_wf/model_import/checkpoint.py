"""A checkpoint of PyTorch, read without PyTorch and without running what it says.

A checkpoint is a pickle, that is, a program. Here it may only make tensors, numbers, texts and containers of
them; whatever else it names is refused. Tensors are read when they are asked for, so that what only training
needs costs nothing.

References
----------
PyTorch, "Serialization semantics": an archive (zip, nothing compressed) with ``data.pkl`` and a file per
storage.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from stages.errors import InputError, printable

_LARGEST_PICKLE = 64 << 20  # bytes; names and numbers only, tensors lie beside it
_BFLOAT16 = "bfloat16"
_TYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": _BFLOAT16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}


class UntrustedCheckpointError(InputError):
    """A checkpoint would run something, and nobody trusts it."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a checkpoint, not read yet.

    Attributes
    ----------
    storage
        Name and type of the file it lies in, as the archive has it.
    offset, shape, strides
        Where in it, in elements.
    """

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str
    length: int


class Checkpoint:
    """A checkpoint that is open: its content, and what its tensors hold.

    Attributes
    ----------
    path
        The file.
    trust_code
        Whether what it would run may be run.
    content
        What was saved, with a `StoredTensor` for each tensor.
    """

    def __init__(self, path: Path, *, trust_code: bool = False) -> None:
        """Open a file.

        Parameters
        ----------
        path
            The file.
        trust_code
            Whether what it names is imported and called, whatever it is.

        Raises
        ------
        InputError
            If it is none, or was cut off.
        UntrustedCheckpointError
            If it names what does more than hold data, and is not trusted.
        """
        self._path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise InputError(
                f"{printable(path)} is no checkpoint of PyTorch, or was cut off: {error}; fetch it anew"
            ) from error
        try:
            self.content = self._load(trust_code=trust_code)
        except BaseException:
            self._archive.close()
            raise

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._archive.close()

    def array(self, tensor: StoredTensor) -> NDArray[Any]:
        """Return what a tensor holds.

        Parameters
        ----------
        tensor
            One of `content`.

        Raises
        ------
        InputError
            If it is not whole.
        """
        storage = tensor.storage
        is_short = storage.dtype == _BFLOAT16
        dtype = np.dtype("<u2" if is_short else storage.dtype)
        data = self._read(f"data/{storage.key}", storage.length * dtype.itemsize)
        last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
        is_odd = min((tensor.offset, *tensor.shape, *tensor.strides)) < 0
        is_odd = is_odd or math.prod(tensor.shape) > storage.length  # repeats a few numbers without end
        if is_odd or len(data) != storage.length * dtype.itemsize or last >= storage.length:
            raise InputError(f"{printable(self._path)} was cut off: a tensor is not whole; fetch it anew")
        flat = np.frombuffer(data, dtype)[tensor.offset :]
        if is_short:
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        strides = [stride * flat.itemsize for stride in tensor.strides]
        return np.ascontiguousarray(np.lib.stride_tricks.as_strided(flat, tensor.shape, strides))

    def _load(self, *, trust_code: bool) -> Any:
        names = [name for name in self._archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1 or any(each.compress_type for each in self._archive.infolist()):
            raise InputError(
                f"{printable(self._path)} is no checkpoint of PyTorch as torch.save writes it since version "
                f"1.6"
            )
        self._prefix = names[0].removesuffix("data.pkl")
        if self._archive.getinfo(names[0]).file_size > _LARGEST_PICKLE:
            raise InputError(f"{printable(self._path)} holds more than weights: {names[0]} has over 64 MiB")
        with self._opened("data.pkl") as file:
            return _unpickled(file, self._path, trust_code=trust_code)

    def _read(self, name: str, most_bytes: int) -> bytes:
        with self._opened(name) as file:
            try:
                return file.read(most_bytes + 1)
            except (zipfile.BadZipFile, EOFError, OSError) as error:
                raise InputError(f"{printable(self._path)} is damaged: {error}; fetch it anew") from error

    def _opened(self, name: str) -> BinaryIO:
        try:
            return self._archive.open(self._prefix + name)  # type: ignore[return-value]
        except (KeyError, zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as error:
            raise InputError(f"{printable(self._path)} was cut off: {error}; fetch it anew") from error


def _unpickled(file: BinaryIO, path: Path, *, trust_code: bool) -> Any:
    try:
        return _Unpickler(file, trust_code=trust_code).load()
    except UntrustedCheckpointError as error:
        raise UntrustedCheckpointError(
            f"{printable(path)} would run {error}, which is no data; look at it, and add it with "
            f"--trust-code "
            f"if you trust it"
        ) from None
    except ImportError as error:
        raise InputError(f"{printable(path)} needs what is not installed here: {error}") from error
    except Exception as error:
        # whatever a pickle's instructions can run into: each is a damaged or a hostile file
        raise InputError(f"{printable(path)} is no checkpoint: {printable(repr(error))}") from error


class _Unpickler(pickle.Unpickler):
    """Makes containers, numbers and stored tensors; names of anything else are an error."""

    def __init__(self, file: BinaryIO, *, trust_code: bool) -> None:
        super().__init__(file)
        self._trust_code = trust_code

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, length = pid
        if kind != "storage" or not isinstance(dtype, str):
            raise ValueError(f"a storage of {kind!r}")
        return _Storage(key=str(key), dtype=dtype, length=int(length))

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("torch") and name in _TYPES:
            return _TYPES[name]
        if made := _MAKERS.get((module.replace("numpy._core", "numpy.core"), name)):
            return made
        if module == "numpy.dtypes" and name.endswith("DType"):
            return _NumpyType
        if self._trust_code:
            return super().find_class(module, name)
        raise UntrustedCheckpointError(printable(f"{module}.{name}"))


class _NumpyType:
    """Stands for a numpy.dtype of a single number."""

    def __init__(self, code: str = "f8", *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        """Take no state: it says what the code has said, for a number."""


def _number(dtype: _NumpyType, data: bytes) -> object:
    return np.frombuffer(data, np.dtype(dtype.code))[0].item()


def _tensor(storage: _Storage, offset: int, shape: Any, strides: Any, *_: object) -> StoredTensor:
    return StoredTensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _parameter(tensor: object, *_: object) -> object:
    return tensor


def _text_of_bytes(text: str, encoding: str) -> bytes:
    return text.encode("latin1" if encoding == "latin1" else "utf-8")


def _words(*parts: object) -> str:
    return " ".join(map(str, parts))


_MAKERS: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "device"): _words,
    ("torch", "Size"): lambda sizes: tuple(sizes),
    ("numpy.core.multiarray", "scalar"): _number,
    ("numpy", "dtype"): _NumpyType,
    ("_codecs", "encode"): _text_of_bytes,
    ("pathlib", "PosixPath"): _words,
}
