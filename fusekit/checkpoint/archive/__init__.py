"""Loads torch.export archives safely: an archive is parsed by a strict grammar and written anew, and torch reads only
the new one.

    listing -> strict_json -> program (grammar, size_expression, operators, guards, ...) -> weights -> write -> torch

Everything that the grammar does not allow is refused, and the message names it (`Refused`). What is promised is in
docs/files.md.
"""
