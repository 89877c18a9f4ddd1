"""Describes a model: its layers, their receptive fields, and what an optimization would do with them.

Knows the optimizer only by its public functions. Must not change the model.
"""
