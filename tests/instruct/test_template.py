"""Templates: what is allowed renders, what is not is an error when the file is read."""

import pytest

from redone_data.errors import RedoneError
from redone_data.instruct.template import Template, TooLongError


def test_a_template_with_conditions_loops_and_filters_renders() -> None:
    source = (
        "{% if parent %}{{ parent | upper }}: {% endif %}{% for o in options %}{{ loop.index }}.{{ o }} {% endfor %}"
    )
    template = Template(source, ["parent", "options"])
    assert template.render({"parent": "hi", "options": ["tea", "茶"]}, 100) == "HI: 1.tea 2.茶"
    assert template.render({"parent": None, "options": []}, 100) == ""
    assert template.names == {"parent", "options"}


def test_text_of_a_post_is_never_run_as_a_template() -> None:
    assert Template("{{ text }}", ["text"]).render({"text": "{{ 7 * 7 }}{% if %}<b>"}, 100) == "{{ 7 * 7 }}{% if %}<b>"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ txt }}", "variable 'txt' is not a column of the task; did you mean 'text'"),
        ("a\n{% if text %}", r"line 2: not a valid template"),
        ("{{ text", "line 1: not a valid template"),
        ("{{ text.__class__ }}", r"\.__class__: attributes are not allowed"),
        ("{{ text['__class__'] }}", "attributes are not allowed"),
        ("{{ text['__cla' ~ 'ss__'] }}", "attributes are not allowed"),
        ("{{ text[text] }}", "attributes are not allowed"),
        ("{{ text | attr('__class__') }}", "filter 'attr' is not allowed"),
        ("{{ ''.__class__.__mro__ }}", "attributes are not allowed"),
        ("{{ text.upper() }}", "not allowed"),
        ("{% for x in range(9) %}{% endfor %}", "'call' is not allowed"),
        ("{{ text * 1000000000 }}", "'mul' is not allowed"),
        ("{{ 9 ** 999999999 }}", "'pow' is not allowed"),
        ("{% set x = text %}", "'assign' is not allowed"),
        ("{% include 'x' %}", "'include' is not allowed"),
        ("{% macro m() %}{% endmacro %}", "'macro' is not allowed"),
        ("{{ text | pprint }}", "filter 'pprint' is not allowed"),
        ("{{ text is callable }}", "test 'callable' is not allowed"),
        ("{% for x in text recursive %}{% endfor %}", "loops within loops"),
        ("{{ loop.index }}", "variable 'loop'"),
        ("{% for a in text %}{% for b in text %}{% endfor %}{% endfor %}", "loops within loops"),
        ("(" * 300 + "{{ " + "(" * 3000 + "text" + ")" * 3000 + " }}", "nested too deeply"),
        ("x" * 20_001, "20,001 characters"),
    ],
)
def test_a_bad_or_unsafe_template_is_refused_when_it_is_read(source: str, message: str) -> None:
    with pytest.raises(RedoneError, match=message):
        Template(source, ["text"])


def test_items_are_taken_by_number_and_slices_cut() -> None:
    template = Template("{{ options[0] }} {{ options[-1] }} {{ text[:3] }}", ["text", "options"])
    assert template.render({"text": "abcdef", "options": ["x", "y"]}, 100) == "x y abc"
    with pytest.raises(RedoneError, match="cannot be filled"):
        template.render({"text": "abcdef", "options": []}, 100)
    with pytest.raises(RedoneError, match="cannot be filled"):
        template.render({"text": "abcdef", "options": 3}, 100)


def test_a_template_that_grows_is_cut_off() -> None:
    with pytest.raises(TooLongError):
        Template("{% for a in text %}{{ text }}{% endfor %}", ["text"]).render({"text": "x" * 100}, 1000)
