"""torch.export archives, read as data: what a strict grammar allows is written anew, and only that reaches torch.

    listing -> strict_json -> program (grammar, size_expression, operators, guards, ...) -> weights -> write -> torch

What is none of it is refused by name (`Refused`). docs/files.md says what is promised.
"""
