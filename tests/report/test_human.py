import re
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from redone_data.report.human import count, duration, label, printable, share, size, width


@given(st.integers(0, 10**15))
def test_a_count_is_never_off_by_more_than_its_last_digit(value: int) -> None:
    digits, unit = re.fullmatch(r"([\d.,]+)([kMBT]?)", count(value)).groups()  # type: ignore[union-attr]
    scale = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}[unit]
    assert abs(float(digits.replace(",", "")) * scale - value) <= 0.0051 * value + 0.5
    assert float(digits.replace(",", "")) < (10_000 if not unit else 1000.5)


@given(st.integers(0, 10**17))
def test_sizes_keep_three_digits(value: int) -> None:
    number, unit = size(value).split(" ")
    assert abs(float(number) * 1000 ** ["B", "kB", "MB", "GB", "TB", "PB"].index(unit) - value) <= 0.0051 * value + 0.5


@given(st.floats(0, 1))
def test_a_share_that_is_neither_none_nor_all_does_not_look_so(value: float) -> None:
    assert (share(value) == "0 %") == (value == 0)
    assert (share(value) == "100 %") == (value == 1)
    assert share(value) not in ("0.0 %", "100.0 %")


@given(st.floats(0, 10**7))
def test_durations_never_show_sixty_of_a_unit(seconds: float) -> None:
    assert not re.search(r"\b60(\.0)? (s|min)", duration(seconds))


@given(st.text())
def test_labels_are_one_line_of_bounded_width(name: str) -> None:
    assert width(label(name, 12)) <= 12
    assert not re.search(r"[\n\t]", label(name, 12))


@given(st.text())
def test_printable_text_has_no_control_characters_and_keeps_the_rest(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    assert not any(unicodedata.category(char) == "Cc" for char in shown if char not in "\n\t")


def test_emoji_families_and_persian_keep_their_joiners() -> None:
    text = "👨‍👩‍👧 می‌خواهم"
    assert printable(text) == text
