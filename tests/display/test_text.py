"""One notation: numbers, sizes, lists and names as people read them."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inspectcli.display.text import (
    clipped,
    count,
    listed,
    natural_key,
    number,
    percent,
    plural,
    runs,
    setting,
    short,
    significant,
    size,
    span,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "0"), (1.0, "1"), (0.13124, "0.1312"), (-12.504, "-12.5"), (3.2e-7, "3.2e-7"),
        (123456.0, "1.2e5"), (1024, "1,024"), (10**9, "1e9"), (None, "–"), (999.96, "1000"),
        (5e-324, "4.9e-324"),
    ],
)  # fmt: skip
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("n", "text"),
    [(0, "0"), (999, "999"), (1000, "1k"), (2_359_296, "2.36M"), (124_439_808, "124.4M"), (7 * 10**9, "7B")],
)
def test_counts_have_units(n: int, text: str) -> None:
    assert short(n) == text


def test_a_large_count_is_given_twice() -> None:
    assert count(124_439_808) == "124,439,808 (124.4M)"
    assert count(26) == "26"


@pytest.mark.parametrize(("n", "text"), [(400, "400 bytes"), (497_774_592, "497.8 MB"), (8_589_934_592, "8.6 GB")])
def test_sizes_are_decimal(n: int, text: str) -> None:
    assert size(n) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0"), (1e-6, "<0.1 %"), (0.125, "12.5 %"), (0.99999, ">99.9 %"), (1.0, "100 %")]
)
def test_only_all_is_a_hundred_per_cent(share: float, text: str) -> None:
    assert percent(share) == text


def test_the_range_of_a_fold() -> None:
    assert span([0.14, 0.18, None]) == "0.14…0.18"
    assert span([1.0, 1.0]) == "1"
    assert span([None]) == "–"


@given(st.floats(allow_nan=False), st.integers(1, 9))
def test_a_figure_of_a_sentence_is_rounded_as_by_format(value: float, digits: int) -> None:
    text = significant(value, digits)
    assert float(text) == float(f"{value:.{digits}g}")
    assert "e+" not in text
    assert "e-0" not in text


@given(st.floats(width=32, allow_nan=False))
@example(3e-5)
@example(-1.1754943508222875e-38)
def test_a_setting_is_exact_in_32_bits_or_to_six_digits(value: float) -> None:
    told = float(setting(value))
    assert told == pytest.approx(value, rel=1e-5) or struct.pack("<f", told) == struct.pack("<f", value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3e-05, "3e-5"), (0.000123, "1.23e-4"), (-2.5e-7, "-2.5e-7"), (0.001, "0.001"), (1e20, "1e20"), (64.0, "64"),
        (struct.unpack("<f", struct.pack("<f", 0.9))[0], "0.9"), (float("inf"), "inf"), (True, "yes"),
        (None, "not set"), ("adam", "adam"), ([1, 2.5], "[1, 2.5]"), ({"a": 1e-8}, "{a: 1e-8}"),
        (list(range(9)), "[0, 1, 2, 3, 4, 5, 6, 7, …]"),
        (2**255, str(2**255)),
    ],
)  # fmt: skip
def test_settings_are_as_people_write_them(value: object, text: str) -> None:
    assert setting(value) == text


def test_an_integer_that_python_does_not_print_is_described() -> None:
    assert setting(10**5000) == "an integer of 16,610 bits"


def test_figures_and_settings_share_one_notation() -> None:
    assert number(3.2e-7) == setting(3.2e-7) == significant(3.2e-7, 3) == "3.2e-7"
    assert number(2e8) == significant(2e8, 3) == "2e8"


@pytest.mark.parametrize(
    ("n", "noun", "text"),
    [
        (1, "file", "1 file"), (0, "file", "0 files"), (1000, "file", "1,000 files"), (2, "study", "2 studies"),
        (2, "key", "2 keys"), (3, "class", "3 classes"), (2, "box", "2 boxes"), (2, "batch", "2 batches"),
    ],
)  # fmt: skip
def test_plurals(n: int, noun: str, text: str) -> None:
    assert plural(n, noun) == text


@pytest.mark.parametrize(
    ("items", "most", "noun", "text"),
    [
        ("", 3, "", ""), ("abc", 3, "", "a, b, c"), ("abcd", 3, "", "a, b, c and 1 more"),
        ("abcd", 3, "tensor", "a, b, c and 1 more tensor"), ("abcde", 3, "tensor", "a, b, c and 2 more tensors"),
        (range(2000), 1, "", "0 and 1,999 more"),
    ],
)  # fmt: skip
def test_lists_say_how_many_more_there_are(items: str, most: int, noun: str, text: str) -> None:
    assert listed(items, most, noun) == text


def test_clauses_are_listed_apart() -> None:
    assert listed(["1 in a, b", "2 in c", "3 in d"], 2, "tensor", "; ") == "1 in a, b; 2 in c; and 1 more tensor"
    assert listed(["f32", "f16", "i8"], 2, separator=" ") == "f32 f16 and 1 more"


@pytest.mark.parametrize(
    ("indices", "text"), [([], ""), ([7], "7"), ([0, 1], "0..1"), ([0, 1, 2, 5, 8, 9], "0..2, 5, 8..9")]
)
def test_runs_of_indices(indices: list[int], text: str) -> None:
    assert runs(indices) == text


@given(st.sets(st.integers(0, 50)))
def test_runs_give_back_the_indices(indices: set[int]) -> None:
    ends = [part.split("..") for part in runs(sorted(indices), ",").split(",") if part]
    assert [i for end in ends for i in range(int(end[0]), int(end[-1]) + 1)] == sorted(indices)


@given(st.text(max_size=20), st.integers(1, 12))
def test_clipped_text_fits_and_keeps_its_beginning(text: str, most: int) -> None:
    made = clipped(text, most)
    assert len(made) <= most
    assert made == text if len(text) <= most else text.startswith(made[:-1]) and made[-1] == "…"


def test_numbers_in_names_are_sorted_as_numbers() -> None:
    ordered = ["", "2", "10", "conv1d", "conv1d_2", "conv1d_10", "h.2.a10", "h.2.a11", "h.10", "h.²", "he"]
    shuffled = random.Random(5).sample(ordered, len(ordered))
    assert sorted(shuffled, key=natural_key) == ordered


def test_a_number_of_any_length_has_its_place() -> None:
    # int() refuses more than 4,300 digits, and a name in a file may have them.
    long = "h." + "9" * 5000
    assert sorted([long, "h.10", "h.9"], key=natural_key) == ["h.9", "h.10", long]


@given(st.lists(st.text("ab.019_²", max_size=8)))
def test_any_names_can_be_sorted(names: list[str]) -> None:
    sorted(names, key=natural_key)
