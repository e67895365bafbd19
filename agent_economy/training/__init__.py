"""Making the models that studies start from, and models that work under a budget.

``finetune.py`` puts a task head on a pretrained encoder and trains both, densely; ``train.py``
trains on under a budget by one of ``methods``, every one of them from the same ``bench.py`` and in
the same ``loop.py``. ``folder.py`` keeps what they write whole. ``score.py`` scores a saved model,
``clock.py`` times it, and ``frontier`` trains whole families and judges them.
"""
