"""What a model is measured on: real text, labelled tasks, encoding and scores.

`sample_texts` and `encode` feed a study; `load_task` and `score` judge it.
"""

from agent_economy.tasks.data import TaskData
from agent_economy.tasks.encoding import Encoded, encode
from agent_economy.tasks.glue import load_task, read_task_file
from agent_economy.tasks.scores import score
from agent_economy.tasks.text import sample_texts, text_digest

__all__ = [
    "Encoded",
    "TaskData",
    "encode",
    "load_task",
    "read_task_file",
    "sample_texts",
    "score",
    "text_digest",
]
