"""What lies on disk, read safely: archives, state dicts, factories.

Knows file formats. Must not know what is done with the model afterwards.
"""
