"""What an answer scores by its own task's metric: the recipe's, the built-in task's, or what its format asks for."""

from redone_data.instruct.answers import AnswerFormat

METRIC_OF_FORMAT = {
    "choice": "accuracy",
    "yes_no": "accuracy",
    "grade": "accuracy",
    "path": "exact_match",
    "labels": "set_f1",
    "spans": "set_f1",
    "fields": "exact_match",
    "text": "rouge_l",
}


def metric_of(form: AnswerFormat) -> str:
    """The metric that a format asks for where nobody says otherwise."""
    return METRIC_OF_FORMAT[form.kind]
