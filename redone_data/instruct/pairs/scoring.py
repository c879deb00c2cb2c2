"""Which metric an answer is scored by: the recipe's, that of the shipped task, or what its format asks for."""

from collections.abc import Mapping
from typing import Any

from redone_data.errors import RedoneError
from redone_data.instruct.answers import AnswerFormat
from redone_data.instruct.task import shipped_tasks
from redone_data.instruct.wording import fold, pieces

METRIC_OF_FORMAT = {
    "choice": "accuracy",
    "yes_no": "accuracy",
    "grade": "accuracy",
    "path": "exact_match",
    "labels": "set_f1",
    "spans": "set_f1",
    "fields": "exact_match",
}
NONE_GIVEN: Mapping[str, str] = {}


def metric_of(task: str, form: AnswerFormat | None, given: Mapping[str, str] = NONE_GIVEN) -> str | None:
    """The metric of a conversation; None for free text of a task that nobody knows.

    >>> metric_of("translation", None), metric_of("my_task", None), metric_of("my_task", None, {"my_task": "bleu"})
    ('chrf', None, 'bleu')
    """
    if task in given:
        return given[task]
    if task in shipped_tasks():
        return shipped_tasks()[task].metric
    return None if form is None else METRIC_OF_FORMAT.get(form.kind)


def is_plain(form: AnswerFormat, text: str, read: Any) -> bool:
    """Whether a text says what its parser reads in it as it was asked to: alone, after "Answer:", or on its last line.

    A parser is kind: it finds an option that a text merely mentions. Such a text scores, but is nothing to learn from.

    >>> from redone_data.instruct.answers import YesNoFormat
    >>> form = YesNoFormat("是", "否")
    >>> [is_plain(form, text, True) for text in ("是。", "想了想。答案：是", "我这次来是为了一件事")]
    [True, True, False]
    """
    try:
        asked_for = fold(form.render(read))
    except RedoneError:  # right enough to score, but with a label that the format does not have
        return False
    return any(fold(piece) == asked_for for piece in pieces(text))
