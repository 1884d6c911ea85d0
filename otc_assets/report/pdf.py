"""The PDF of a page, by PlutoPrint: it needs no browser, and renders the page's print styles on A4 in under a second.

PlutoPrint 0.23 has flexbox, page numbers and repeated table headings, and neither grid nor gradients: the style sheet
uses none. Where a machine has no fonts, as in a container, it prints blanks; the font is therefore a package.
"""

from __future__ import annotations

import io
from pathlib import Path

import plutoprint
from font_source_sans_pro import font_files_ttf

#: The page sets its own margins (@page).
_NO_MARGINS = plutoprint.PageMargins(0, 0, 0, 0)

_FAMILY = "Source Sans Pro"
_FACES = {400: "SourceSansPro", 600: "SourceSansProSemibold"}


def to_pdf(html: str) -> bytes:
    """The page as a PDF."""
    book = plutoprint.Book(plutoprint.PAGE_SIZE_A4, _NO_MARGINS, plutoprint.MEDIA_TYPE_PRINT)
    book.load_html(html, user_style=_fonts(), base_url="about:blank")
    out = io.BytesIO()
    book.write_to_pdf_stream(out)
    return out.getvalue()


def _fonts() -> str:
    """Styles that give every text the font of the package."""
    faces = "".join(
        f'@font-face {{ font-family: "{_FAMILY}"; font-weight: {weight}; '
        f'src: url("{Path(font_files_ttf[name]).as_uri()}"); }}\n'
        for weight, name in _FACES.items()
    )
    return f'{faces}body, h1, h2, .lede, svg text {{ font-family: "{_FAMILY}" !important; }}\n'
