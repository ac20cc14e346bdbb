"""pydantic's mistakes as words."""

from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from stages.runtime.validation import mistakes, place_text


class Block(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(pattern="^[a-z]+$")]
    sizes: list[int] = []
    by_count: dict[int, str] = {}

    @field_validator("sizes")
    @classmethod
    def _few(cls, values):
        if len(values) > 2:
            raise ValueError("there are more than two")
        return values


def mistake_in(**content):
    with pytest.raises(ValidationError) as caught:
        Block.model_validate({"name": "a", **content})
    (found,) = mistakes(caught.value.errors(), forms={"^[a-z]+$": "small letters"})
    return found


def test_wrong_value_has_its_place_and_what_was_expected():
    found = mistake_in(sizes=[1, "two"])
    assert (found.kind, found.place, found.expected) == ("wrong", ("sizes", 1), "a whole number")
    assert found.found_as_json == '"two"'
    assert place_text(found.place) == "sizes[1]"
    assert place_text(found.place, first_index=1) == "sizes[2]"


def test_sentence_of_our_own_stays_as_it_is():
    found = mistake_in(sizes=[1, 2, 3])
    assert (found.kind, found.message) == ("own", "there are more than two")


def test_unknown_key_is_told_from_a_wrong_value():
    assert mistake_in(nam="b").kind == "unknown"


def test_missing_key_is_told():
    with pytest.raises(ValidationError) as caught:
        Block.model_validate({})
    assert [found.kind for found in mistakes(caught.value.errors())] == ["missing"]


def test_pattern_has_the_words_of_the_caller():
    assert mistake_in(name="A").expected == "small letters"


def test_wrong_key_has_the_place_of_its_value():
    found = mistake_in(by_count={"x": "y"})
    assert found.is_key
    assert found.place == ("by_count", "x")
