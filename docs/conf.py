"""The documentation site: Sphinx reads the Markdown of this folder. ``make docs`` builds it."""

from importlib.metadata import version as installed_version
from pathlib import Path

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


def _rewrite(source: str) -> str:
    for link, page in _PAGES.items():
        source = source.replace(link, page)
    return source


def setup(app: Sphinx) -> None:
    """Rewrites links to files outside this folder."""

    def read(_app: Sphinx, _name: str, source: list[str]) -> None:
        source[0] = _rewrite(source[0])

    def included(_app: Sphinx, _path: Path, _parent: str, source: list[str]) -> None:
        source[0] = _rewrite(source[0])

    app.connect("source-read", read)
    app.connect("include-read", included)
