"""Which metric an answer is scored by: the recipe's, that of the shipped task, or what its format asks for."""

from collections.abc import Mapping

from redone_data.instruct.answers import AnswerFormat
from redone_data.instruct.task import shipped_tasks

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
