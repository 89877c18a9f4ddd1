"""Describes a model: its layers, their receptive fields, and what an optimization would do with them.

Uses the optimizer only through its public functions. Must not change the model.
"""
