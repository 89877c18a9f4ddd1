"""The command that examines the installation. It imports nothing that might be missing."""

import json

from fusekit.cli.console import BAD, OK, Screen
from fusekit.doctor.examine import examine


def doctor(screen: Screen) -> int:
    """Show what was found. The exit code is 0 if the core works."""
    with screen.progress(1) as steps:
        steps.begin("looking")
        found = examine()
    screen.show(found)
    screen.emit({"command": "doctor", **json.loads(found.to_json())})
    return OK if found.ok else BAD
