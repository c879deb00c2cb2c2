"""A matplotlib figure as SVG to put into a page.

Text stays text: the browser draws it, in its own fonts, and can select it. Colours of the palette become CSS variables
(with themselves as fallback), so a page may show them lighter on dark. Ids are prefixed with the figure's name: several
figures can share a page. matplotlib escapes what it writes; the tree is parsed and serialised again.
"""

import io
import re
import warnings
import xml.etree.ElementTree as ElementTree

import matplotlib
from matplotlib.figure import Figure

from redone_data.report import canvas

VARIABLES = {
    getattr(canvas, name): f"--plot-{name.lower()}"
    for name in (
        *("INK", "MUTED", "GRID", "FAINT", "SURFACE"),
        *("BLUE", "SKY", "GREEN", "ORANGE", "VERMILION", "PINK", "BROWN", "GREY"),
    )
}
_COLOUR = re.compile("|".join(VARIABLES))
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_FONT_FAMILY = re.compile(r"font-family:[^;]*;?\s*")
_HREF = "{http://www.w3.org/1999/xlink}href"
_DROPPED = ("metadata",)


def to_svg(figure: Figure, name: str, description: str = "") -> str:
    """An <svg> element. name: unique in its page, ASCII."""
    out = io.StringIO()
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        # matplotlib measures text even where the browser will draw it; a missing glyph is then of no account.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(out, format="svg", facecolor="none", edgecolor="none", dpi=144, metadata={"Date": None})
    root = ElementTree.fromstring(out.getvalue())
    _clean(root, name, _referenced(root))
    root.attrib = {
        "class": "plot",
        "role": "img",
        "aria-label": description or name,
        "width": root.attrib["width"],
        "height": root.attrib["height"],
        "viewBox": root.attrib["viewBox"],
    }
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _referenced(root: ElementTree.Element) -> set[str]:
    used = set()
    for element in root.iter():
        used.add(element.get(_HREF, "").removeprefix("#"))
        used.update(re.findall(r"url\(#([^)]+)\)", element.get("clip-path", "")))
    return used


def _clean(element: ElementTree.Element, name: str, referenced: set[str]) -> None:
    """Plain tags, prefixed ids where they are used, short numbers, variables for colours; in place."""
    element.tag = element.tag.rpartition("}")[2]
    if element.tag != "text" and not (element.text or "").strip():
        element.text = None
    element.tail = None
    attributes = {}
    for key, value in element.attrib.items():
        if key == "id":
            if value in referenced:
                attributes[key] = f"{name}-{value}"
        elif key == _HREF:
            attributes["href"] = f"#{name}-{value[1:]}" if value.startswith("#") else value
        elif key == "clip-path":
            attributes[key] = value.replace("url(#", f"url(#{name}-")
        elif key == "style":
            attributes[key] = _COLOUR.sub(lambda hit: f"var({VARIABLES[hit[0]]},{hit[0]})", _FONT_FAMILY.sub("", value))
        elif key == "transform" and value.startswith("rotate(-0 "):
            continue
        else:
            short = _NUMBER.sub(lambda hit: f"{float(hit[0]):.2f}".rstrip("0").rstrip("."), value)
            attributes[key] = " ".join(short.split())
    element.attrib = attributes
    for child in list(element):
        tag = child.tag.rpartition("}")[2]
        if tag in _DROPPED or (tag == "defs" and len(child) == 1 and child[0].tag.endswith("}style")):
            element.remove(child)
        else:
            _clean(child, name, referenced)
