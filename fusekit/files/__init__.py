"""Writes files so that they appear complete or not at all, and leaves no temporary files behind.

Knows the file system. Must not know what is in a file, or who writes it.
"""

from fusekit.files.owned_folder import owned_folder, remove_all, scratch
from fusekit.files.staged import beside, destination, place, staged

__all__ = ["beside", "destination", "owned_folder", "place", "remove_all", "scratch", "staged"]
