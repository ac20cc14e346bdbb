"""How a volume becomes a model's input, and its output a mask: what the model says of itself.

The description stands in the ``parameters`` of the model's ``config.pbtxt``, each value one JSON text, so
that a model and its preprocessing travel together; docs/reference/model.md explains each.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError, model_validator

from stages.errors import InferenceError
from stages.model.contradictions import ContradictionError, contradictions
from stages.model.parameter_texts import read_parameters
from stages.model.parameters import ModelParameters
from stages.model.problems import problems_by_name
from stages.model.tensors import ModelTensors
from stages.triton.types import ServedModel


class ModelDescription(ModelParameters):
    """How a volume becomes a model's input, and its output a mask: parameters that agree with each other."""

    @model_validator(mode="after")
    def _hold_together(self) -> ModelDescription:
        if found := contradictions(self):
            raise ContradictionError(found)
        return self

    @classmethod
    def from_server(cls, served: ServedModel) -> ModelDescription:
        """Return the description of a served model, checked against its tensors.

        The window is that of the tensors where the description leaves it to them.

        Parameters
        ----------
        served
            What the server says of the model.

        Raises
        ------
        InferenceError
            If a parameter is missing, unknown, malformed, or contradicts another or a tensor. All that is
            wrong with the parameters is told together.
        """
        values, problems = read_parameters(served.parameters, cls.model_fields)
        try:
            description = cls._of_values(values)
        except ValidationError as error:
            found = {**problems_by_name(error.errors()), **{name: [said] for name, said in problems.items()}}
            told = [each for name in found for each in found[name]]
            told += () if "" in found else cls._contradictions_in_rest(values, found)
            raise _refusal(served.name, told) from error
        if problems:
            raise _refusal(served.name, problems.values())
        window = description.tensors_of(served).window(description.window_shape, description.size)
        return description.model_copy(update={"window_shape": window})

    @classmethod
    def _of_values(cls, values: Mapping[str, Any]) -> ModelDescription:
        """Return the description of JSON values: no text is taken for a number, and no truth value."""
        return cls.model_validate_json(json.dumps(values), strict=True)

    @classmethod
    def _contradictions_in_rest(cls, values: Mapping[str, Any], untrusted: Collection[str]) -> Iterator[str]:
        """Yield what is contradictory in the parameters that are right each by itself, if others are not."""
        rest = {name: value for name, value in values.items() if name not in untrusted}
        try:
            cls._of_values({**_ANY, **rest})
        except ValidationError as error:
            for each in error.errors()[0]["ctx"]["error"].found:
                if each.parameters.isdisjoint(untrusted):
                    yield each.sentence

    def tensors_of(self, served: ServedModel) -> ModelTensors:
        """Return what the tensors of the model say.

        Parameters
        ----------
        served
            What the server says of the model.

        Raises
        ------
        InferenceError
            If they contradict the description.
        """
        return ModelTensors.from_server(
            served,
            channels=len(self.channel_labels),
            as_labels=self.activation == "labels",
            slice_stack=self.slice_stack,
        )


_ANY = {"orientation": "SPL", "activation": "softmax", "channel_labels": [0, 1]}
"""Any values of the parameters that must be there."""


def _refusal(model: str, problems: Iterable[str]) -> InferenceError:
    return InferenceError(
        f"the config.pbtxt of model {model!r}: {'; '.join(problems)} (each parameter: "
        f"docs/reference/model.md)"
    )
