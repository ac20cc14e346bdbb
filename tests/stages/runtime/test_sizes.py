"""Sizes that people write."""

import pytest

from stages.runtime.sizes import bytes_of, in_words


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000000", 1_000_000),
        ("4G", 4 * 2**30),
        ("512 MiB", 512 * 2**20),
        ("1.5g", 3 * 2**29),
        ("2kb", 2048),
        (" 1T ", 2**40),
        ("9" * 400, 2**62),
    ],
)
def test_size_is_counted_in_powers_of_1024(text, size):
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "4 P", "1,5G", "4G 2", "1e3"])
def test_what_is_no_size_has_no_bytes(text):
    assert bytes_of(text) is None


@pytest.mark.parametrize(("size", "words"), [(2**30, "1.00 GiB"), (2**20 + 1, "2 MiB"), (0, "0 MiB")])
def test_size_is_told_in_the_unit_that_fits(size, words):
    assert in_words(size) == words
