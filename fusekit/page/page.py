"""Content to HTML. Everything that a model names is escaped by Jinja2, or is JSON without a "<"."""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fusekit.files import staged
from fusekit.page.content import Content
from fusekit.version import __version__

_ENVIRONMENT = Environment(
    loader=PackageLoader("fusekit.page", "assets"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
_ENVIRONMENT.globals["source"] = lambda name: Markup(_source(name))
_SCRIPTS = ("layout.js", "graph.js", "details.js", "picture.js")


def page(content: Content) -> str:
    """The whole page as text. It loads nothing from elsewhere."""
    script = "" if content.picture is None else content.picture.to_script()
    return render("page.html", content=content, script=Markup(script), scripts=_SCRIPTS)


def render(template: str, **values: object) -> str:
    """A template of the folder `assets`, filled in with these values."""
    return _ENVIRONMENT.get_template(template).render(version=__version__, **values)


def snippet(content: Content, failures: Sequence[str] = ()) -> str:
    """A few small tables with their own style, for a notebook. `failures`: lines to add."""
    return _ENVIRONMENT.get_template("notebook.html").render(content=content, failures=failures)


def write_page(content: Content, path: str | Path) -> None:
    """Write the page to `path`: whole, or not at all. Raises ExportError if no file can be written there."""
    text = page(content)
    with staged(path) as stage:
        stage.write_text(text, encoding="utf-8")


def _source(name: str) -> str:
    """A style sheet or script of the page, as it is."""
    assert _ENVIRONMENT.loader is not None
    return _ENVIRONMENT.loader.get_source(_ENVIRONMENT, name)[0]
