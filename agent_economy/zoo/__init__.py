"""Where pretrained weights come from: one file per source.

`load` gives a model and its tokenizer by alias, folder or hub id; `catalogue` says what is here
without importing torch or transformers.
"""

from agent_economy.zoo.catalogue import Entry, aliases, catalogue, find_source
from agent_economy.zoo.load import LoadedModel, Task, load

__all__ = ["Entry", "LoadedModel", "Task", "aliases", "catalogue", "find_source", "load"]
