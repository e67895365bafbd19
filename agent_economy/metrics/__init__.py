"""Numbers that say what an economy did: attention, inequality, contribution, networks, frontiers.

Functions of tensors and arrays alone; they know neither transformers nor Mesa.
"""
