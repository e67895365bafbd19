"""What the studies of allocation dynamics share: a model, its texts, economies to run them through.

`config` holds the settings common to all of them, `session` loads the model once and founds
economies.
"""
