"""The documentation site: Sphinx reads the Markdown of this folder. ``make docs`` builds it."""

from importlib.metadata import version as installed_version
from typing import Any

from sphinx.application import Sphinx

project = "otc-assets"
version = release = installed_version("otc-assets")
copyright = "the otc-assets authors"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"otc-assets {release}"
html_static_path: list[str] = []

myst_enable_extensions = ["colon_fence", "deflist"]
# Links such as page.md#section, as GitHub makes them.
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_google_docstring = True
copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True

# Pages that are on this machine only while something runs, and examples that no one serves.
linkcheck_ignore = [r"http://(localhost|127\.0\.0\.1)[:/].*", r"https?://[^/]*\.(example|internal)\b.*"]
linkcheck_timeout = 30

# Links that work on GitHub, and the pages of the site that they lead to.
_PAGES = {
    "](../helm/otc-assets/README.md": "](helm.md",
    "](helm/otc-assets/README.md": "](helm.md",
    "](../README.md": "](readme.md",
}


def _rewrite(*given: Any) -> None:
    """Rewrites links to files outside this folder, in what Sphinx has just read: a list of one text, given last."""
    source = given[-1]
    for link, page in _PAGES.items():
        source[0] = source[0].replace(link, page)


def setup(app: Sphinx) -> None:
    """Has the links of every page and of every included file rewritten."""
    app.connect("source-read", _rewrite)
    app.connect("include-read", _rewrite)
