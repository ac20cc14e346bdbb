"""For a server on another host: the image goes once, and its windows are cut and blended beside the model.

Windows overlap, so one by one they would carry the image about eight times, and their scores as often back.
A model of the server's repository does the same as `stages.windows.sliding` there, with the same code. It is
written into a repository by ``python -m stages windows-model REPOSITORY``.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

import numpy as np

from stages.arrays import array_namespace
from stages.errors import SettingsError
from stages.memory.limits import MemoryLimit, in_words, resident_bytes
from stages.runtime import atomic
from stages.triton.client import TritonPredictor
from stages.triton.connection import DEADLINE_S, PATIENCE_S
from stages.triton.transport import Transport
from stages.triton.types import ServedModel
from stages.windows.blending import ScoreSlab
from stages.windows.plan import WindowPlan
from stages.windows.sliding import Predictor, score_slabs
from stages.windows.source import Image

logger = logging.getLogger(__name__)

MODEL_NAME = "sliding_window"
_PACKAGE = Path(__file__).parents[1]
_FILES = Path(__file__).parent / "windows_model"
_COPIED = ("errors.py", "arrays.py", "windows/*.py")


class RemoteWindows:
    """The windows model of one server, and the model that it asks.

    Parameters
    ----------
    url
        ``host:port`` of the server's gRPC endpoint.
    model
        The model that marks, as the server describes it.
    deadline_s, patience_s, transport
        As for `stages.triton.client.TritonPredictor`; the deadline is for one window.
    """

    def __init__(
        self,
        url: str,
        model: ServedModel,
        *,
        deadline_s: float = DEADLINE_S,
        patience_s: float = PATIENCE_S,
        transport: Transport = "auto",
    ) -> None:
        self._model = model
        self._deadline_s = deadline_s
        self._predictor = TritonPredictor(url, MODEL_NAME, patience_s=patience_s, transport=transport)

    def __enter__(self) -> RemoteWindows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what is open and close the connection."""
        self._predictor.close()

    def is_available(self) -> bool:
        """Return whether the server has the windows model ready."""
        return self._predictor.is_ready()

    def score_slabs(self, image: Image, *, windows: WindowPlan) -> Iterator[ScoreSlab]:
        """Yield the scores of an image as one slab, the same as `stages.windows.sliding.score_slabs`.

        Parameters
        ----------
        image
            Shape (slices, rows, columns), float32 or float16.
        windows
            How it is cut into windows.

        Raises
        ------
        InferenceError
            If the server does not answer in time, or either model refuses.
        """
        whole = image[0 : image.shape[0]]
        entry, exit_ = self._model.inputs[0], self._model.outputs[0]
        model = {
            "name": self._model.name,
            "input": entry.name,
            "output": exit_.name,
            "datatype": entry.datatype,
        }
        count = windows.count(image.shape)
        logger.info("the image goes once, its %d windows are cut beside the model", count)
        request = self._predictor.submit(
            whole.astype(np.float32, copy=False),
            parameters={"task": json.dumps({"model": model, "windows": asdict(windows)})},
            deadline_s=self._deadline_s * count,
        )
        try:
            scores = request.result()
            xp = array_namespace(scores)
            yield ScoreSlab(0, scores if scores.dtype == np.float32 else xp.asarray(scores, np.float32))
        finally:
            request.cancel()
            request.release()


def score_slabs_anywhere(
    image: Image,
    predictor: Predictor,
    *,
    windows: WindowPlan,
    limit: MemoryLimit | None = None,
    deadline_s: float = DEADLINE_S,
) -> Iterator[ScoreSlab]:
    """Yield the scores of an image, cut beside the model where the server is far and offers that.

    Parameters
    ----------
    image
        Shape (slices, rows, columns), float32 or float16.
    predictor
        As for `stages.windows.sliding.score_slabs`. A server is far if windows travel to it by messages.
    windows
        How the image is cut into windows.
    limit
        What the host's memory may take: image and scores travel whole if they are sent once.
    deadline_s
        Longest time for the output of one window, seconds, where they are cut beside the model.

    Returns
    -------
    Iterator of ScoreSlab
        Each begins with the last slice of the one before it.
    """
    if isinstance(predictor, TritonPredictor) and predictor.transport == "grpc":
        served = predictor.describe()
        with RemoteWindows(predictor.url, served, deadline_s=deadline_s, transport="grpc") as remote:
            if remote.is_available() and _fits(image, windows, limit):
                yield from remote.score_slabs(image, windows=windows)
                return
    yield from score_slabs(image, predictor, windows=windows, shared_slice=True)


def _fits(image: Image, windows: WindowPlan, limit: MemoryLimit | None) -> bool:
    """Return whether memory suffices for image and scores, each twice, as what it is and as a message."""
    needed = 2 * 4 * (1 + windows.classes) * math.prod(image.shape)
    if limit is None or resident_bytes() + needed <= limit.size:
        return True
    logger.info("windows are sent one by one: the image at once takes %s of memory", in_words(needed))
    return False


def write_windows_model(repository: Path) -> Path:
    """Write the windows model into a Triton repository, or renew it, and return its folder.

    It appears whole or not at all, under the name that `RemoteWindows` asks for.

    Parameters
    ----------
    repository
        Folder of models that a Triton server reads.

    Raises
    ------
    SettingsError
        If the repository is no folder that can be written to.
    """
    folder = repository / MODEL_NAME
    made = repository / f".{MODEL_NAME}-{os.urandom(4).hex()}"  # what is hidden is no model
    try:
        package = made / "1" / "stages"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text('"""A part of the toolkit, as the windows model needs it."""\n')
        for source in (path for pattern in _COPIED for path in _PACKAGE.glob(pattern)):
            copy = package / source.relative_to(_PACKAGE)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, copy)
        shutil.copyfile(_FILES / "model.py", made / "1" / "model.py")
        shutil.copyfile(_FILES / "config.pbtxt", made / "config.pbtxt")
        atomic.rename(made, folder)
    except OSError as error:
        raise SettingsError(f"the windows model cannot be written into {repository}: {error}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder
