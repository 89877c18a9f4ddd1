"""A package that extends fusekit by a pass, a runtime and readers of operators; `docs/extending.md` explains it."""
