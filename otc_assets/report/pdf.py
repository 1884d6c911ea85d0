"""The PDF of a page, by PlutoPrint: it needs no browser, and renders the page's print styles on A4 in under a second.

PlutoPrint 0.23 has flexbox, page numbers and repeated table headings, and neither grid nor gradients: the style sheet
uses none.
"""

from __future__ import annotations

import io

import plutoprint

#: The page sets its own margins (@page).
_NO_MARGINS = plutoprint.PageMargins(0, 0, 0, 0)


def to_pdf(html: str) -> bytes:
    """The page as a PDF."""
    book = plutoprint.Book(plutoprint.PAGE_SIZE_A4, _NO_MARGINS, plutoprint.MEDIA_TYPE_PRINT)
    book.load_html(html, base_url="about:blank")
    out = io.BytesIO()
    book.write_to_pdf_stream(out)
    return out.getvalue()
