"""Numbers and names as people read them: 12.3k documents, 4.5 MB, 2 min 05 s; no control characters, no long names."""

import unicodedata

ABSENT = "–"
_MAX_WIDTH = 28


def count(value: float | None) -> str:
    """Three digits and a letter.

    >>> count(9876), count(12_345), count(999_960), count(None)
    ('9,876', '12.3k', '1.00M', '–')
    """
    if value is None:
        return ABSENT
    if abs(value) < 10_000:
        return f"{value:,.0f}"
    return _scaled(value, ("", "k", "M", "B", "T"))


def size(num_bytes: float | None) -> str:
    """Bytes, in powers of a thousand.

    >>> size(812), size(4_512_000), size(0)
    ('812 B', '4.51 MB', '0 B')
    """
    if num_bytes is None:
        return ABSENT
    if abs(num_bytes) < 1000:
        return f"{num_bytes:.0f} B"
    return _scaled(num_bytes, (" B", " kB", " MB", " GB", " TB", " PB"))


def _scaled(value: float, units: tuple[str, ...]) -> str:
    step = 0
    while abs(value) >= 999.5 and step < len(units) - 1:
        value, step = value / 1000, step + 1
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f}{units[step]}"


def share(fraction: float | None) -> str:
    """A percentage; a small one is never shown as none, nor nearly all as all.

    >>> share(0.1234), share(0.0002), share(0.99999), share(1.0), share(0.0)
    ('12.3 %', '<0.1 %', '>99.9 %', '100 %', '0 %')
    """
    if fraction is None:
        return ABSENT
    if fraction in (0, 1):
        return f"{fraction:.0%}".replace("%", " %")
    if 0 < fraction < 0.0005:
        return "<0.1 %"
    if 0.9995 <= fraction < 1:
        return ">99.9 %"
    return f"{100 * fraction:.1f} %"


def duration(seconds: float) -> str:
    """Wall time.

    >>> duration(0.004), duration(3.14), duration(125), duration(7980)
    ('<0.1 s', '3.1 s', '2 min 05 s', '2 h 13 min')
    """
    if seconds < 59.95:
        return "<0.1 s" if 0 < seconds < 0.05 else f"{seconds:.1f} s"
    if seconds < 3599.5:
        return f"{round(seconds) // 60} min {round(seconds) % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def loss(value: float | None) -> str:
    """Bits per byte, four decimals."""
    return ABSENT if value is None else f"{value:.4f}"


def decimals(value: float | None, digits: int = 3) -> str:
    """A plain number; a dash where it does not exist, as a correlation without variation."""
    return ABSENT if value is None or value != value else f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 4) -> str:
    """A difference, with its sign and a true minus.

    >>> signed(-0.01234), signed(0.5, digits=1)
    ('−0.0123', '+0.5')
    """
    return ABSENT if value is None else f"{value:+.{digits}f}".replace("-", "−")


def printable(text: str) -> str:
    """Text that cannot steer a terminal, an XML parser or the direction of its surroundings; line breaks stay.

    >>> printable("a\\x1b[31mb\\u202ec\\n")
    'a�[31mb�c\\n'
    """
    return "".join("\ufffd" if _is_unprintable(char) else char for char in text)


# Embeddings, overrides and isolates. Joiners stay: emoji and Persian need them.
_DIRECTION = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))


def _is_unprintable(char: str) -> bool:
    if char in "\n\t":
        return False
    code = ord(char)
    noncharacter = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    return noncharacter or char in _DIRECTION or unicodedata.category(char) in ("Cc", "Cs")


def width(text: str) -> int:
    """Columns that a text takes: two for a wide (Chinese, Japanese, Korean) character."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def label(name: str, max_width: int = _MAX_WIDTH) -> str:
    """A name on one line, cut to a width.

    >>> label("小红书笔记与评论的合集以及其他内容", max_width=12)
    '小红书笔记…'
    """
    line = " ".join(printable(name).split())
    if width(line) <= max_width:
        return line
    cut = ""
    for char in line:
        if width(cut + char) > max_width - 1:
            break
        cut += char
    return cut + "…"
