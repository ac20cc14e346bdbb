"""What the models are that a job is served with, said beside the locks of its results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from clara_wf.definitions.workflow import Step, Workflow
from clara_wf.models.repository import model_records
from clara_wf.payload import Payload
from stages.errors import InferenceError
from stages.lifecycle import models_file
from stages.lifecycle.model_record import ModelRecord

_ANSWER_S = 1.0


def publish_repository(payload: Payload, repository: Path, cache: Path, *, surely: bool = True) -> None:
    """Record the models of a repository as they are now, beside the job's locks.

    Parameters
    ----------
    payload, repository
        The job's folders and the model repository.
    cache
        Where the hashes of files are kept.
    surely
        Whether it is this repository that the job is served from. If not, versions are left out: only a
        result that was made from these files is compared with them.
    """
    records = model_records(repository, cache)
    models_file.publish_models(
        payload.lock_dir, records if surely else [replace(each, version="") for each in records]
    )


def publish_server(payload: Payload, workflow: Workflow, url: str) -> None:
    """Record what a server says of the models of the job's results, if it answers at once.

    Parameters
    ----------
    payload, workflow, url
        The job's folders, the workflow and the server's HOST:PORT.
    """
    used = {model.name for step in workflow.steps for model in _used(payload, step)}
    models_file.publish_models(payload.lock_dir, _ask(url, sorted(used)))


def not_compared(payload: Payload, steps: Iterable[Step]) -> Iterator[str]:
    """Yield a sentence for each result that is kept though the weights of its model are not known.

    Parameters
    ----------
    payload, steps
        The job's folders and the stages whose results are kept.
    """
    for step in steps:
        for model in models_file.models_of_unknown_weights(payload.lock_dir, step.block.lockName):
            yield (
                f"{step.name} is kept; whether the weights of model {model} are still the same is not known "
                f"(--fresh runs it again)"
            )


def _used(payload: Payload, step: Step) -> tuple[ModelRecord, ...]:
    return models_file.models_of(payload.lock_dir, step.block.lockName)


def _ask(url: str, names: list[str]) -> Iterator[ModelRecord]:
    if not names:
        return
    from stages.triton.client import TritonPredictor

    for name in names:
        with TritonPredictor(url, name, patience_s=0) as predictor:
            try:
                predictor.wait_until_ready(_ANSWER_S)
                yield ModelRecord(**asdict(predictor.describe().algorithm))
            except InferenceError:
                continue  # nothing is known of it, which `not_compared` tells
