"""The registry of tasks, by name."""

from train.finetuning.settings import TaskName
from train.finetuning.tasks.classification import Classification, Regression
from train.finetuning.tasks.crf_tagging import CRFTagging
from train.finetuning.tasks.multi_label import MultiLabel
from train.finetuning.tasks.multiple_choice import MultipleChoice
from train.finetuning.tasks.question_answering import QuestionAnswering
from train.finetuning.tasks.tagging import Tagging
from train.finetuning.tasks.task import Task
from train.finetuning.tasks.text_to_text import TextToText

TASKS: dict[TaskName, Task] = {
    "classification": Classification(),
    "multi-label": MultiLabel(),
    "regression": Regression(),
    "tagging": Tagging(),
    "crf-tagging": CRFTagging(),
    "question-answering": QuestionAnswering(),
    "multiple-choice": MultipleChoice(),
    "text-to-text": TextToText(),
}
