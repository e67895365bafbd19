"""Making the models that studies start from.

``finetune.py`` puts a task head on a pretrained encoder and trains both, densely; ``folder.py``
keeps what it writes whole, ``batches.py`` feeds it, ``classifier.py`` makes the model.
"""
