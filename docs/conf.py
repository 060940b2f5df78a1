"""How Sphinx builds these pages: `make docs`. Everything a page needs is in the build; it fetches nothing."""

import re
from pathlib import Path

project = "AtlHyper"
author = "The AtlHyper authors"
copyright = "The AtlHyper authors"

extensions = ["myst_parser"]
myst_heading_anchors = 4
exclude_patterns = ["_build", "decisions/template.md"]

html_theme = "alabaster"
html_theme_options = {
    "description": "One control plane for a fleet, on one message bus",
    "fixed_sidebar": True,
    "page_width": "1100px",
    "show_powered_by": False,
}
html_show_sourcelink = False
html_copy_source = False

DOCS = Path(__file__).parent


def without_links_to_code(app, name, source):
    """The build holds pages only: what links to another file of the repository is its text there.

    That such a file exists is looked at by tests/docs/test_docs.py.
    """

    def text_of(found):
        target = (DOCS / name).parent / found[2].partition("#")[0]
        inside = target.resolve().is_relative_to(DOCS) or "://" in found[2]
        return found[0] if inside else found[1]

    source[0] = re.sub(r"\[([^\]]*)\]\(([^)\s]+)\)", text_of, source[0])


def setup(app):
    app.connect("source-read", without_links_to_code)
