"""What is in a model: its layers, their receptive fields, and what would become of them.

Knows the optimizer from outside. Must not change the model.
"""
