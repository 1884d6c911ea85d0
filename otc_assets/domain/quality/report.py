"""The checks of the weekly report: its page is read as a browser reads it, and compared with sums of the database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from html.parser import HTMLParser

from otc_assets.domain.quality.evidence import Finding, none_of
from otc_assets.domain.report import WEEKLY_REPORT

#: Elements that have no end tag.
_VOID = {"meta", "link", "img", "br", "hr", "input", "col", "source", "wbr"}
#: Attributes whose address a browser loads by itself; ``a`` only links.
_LOADING = {"src", "srcset", "data", "poster", "background"}
_NEEDED = ("html", "head", "title", "body", "header", "main", "h1", "footer")


@dataclass(frozen=True)
class ReportPage:
    """A page, and by tier and figure the sums that it must state.

    Attributes:
        html: the page; None if there is none.
        sums: by tier, the figures of ``symbol_summary``, added up by the database; None where the week is not
            computed, or retention has dropped it.
    """

    html: str | None
    sums: Mapping[str, Mapping[str, Decimal]] | None


class _Reader(HTMLParser):
    """Reads elements, sections and figures, and notes what is malformed or loaded from elsewhere."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: set[str] = set()
        self.sections: list[str] = []
        self.figures: dict[tuple[str, str], Decimal] = {}
        self.problems: list[str] = []
        self.feed(html)
        self.close()
        self.problems += [f"<{tag}> is not closed" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes an element."""
        found = {name: value or "" for name, value in attrs}
        self.elements.add(tag)
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "section":
            self.sections.append(found.get("id", ""))
        if tag == "data":
            self.figures[found["data-tier"], found["data-figure"]] = Decimal(found["value"])
        self._note_loading(tag, found)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes an element without content, of SVG."""
        self._note_loading(tag, {name: value or "" for name, value in attrs})

    def handle_endtag(self, tag: str) -> None:
        """Compares an end tag with the element that it must close."""
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes no open element")

    def _note_loading(self, tag: str, attributes: Mapping[str, str]) -> None:
        loaded = _LOADING.intersection(attributes) if tag != "data" else set()
        if tag in ("script", "link", "iframe") or loaded or (tag != "a" and "href" in attributes):
            self.problems.append(f"<{tag}> loads something")


@lru_cache(maxsize=1)
def _read(html: str) -> _Reader:
    """The page, read once for all of its checks."""
    return _Reader(html)


def totals_match_summaries(page: ReportPage) -> Finding:
    """Judges whether the page's totals equal the sums of symbol_summary, to the share."""
    if page.html is None:
        return _no_page(page)
    if page.sums is None:
        return Finding(True, "the page stays: symbol_summary has no figures of this week to compare it with")
    stated = _read(page.html).figures
    expected = {(tier, name): value for tier, sums in page.sums.items() for name, value in sums.items()}
    differs = sorted({*stated, *expected}, key=str)
    differs = [key for key in differs if stated.get(key) != expected.get(key)]
    shown = "; ".join(
        f"{name} of {tier}: {stated.get((tier, name), 'missing')} on the page, {expected.get((tier, name), 'none')} "
        "in symbol_summary"
        for tier, name in differs
    )
    return none_of(len(differs), shown or f"{len(expected)} totals are those of symbol_summary")


def sections_present(page: ReportPage) -> Finding:
    """Judges whether every section is on the page, once and in order."""
    if page.html is None:
        return _no_page(page)
    found, wanted = _read(page.html).sections, list(WEEKLY_REPORT.sections)
    missing = [name for name in wanted if name not in found]
    detail = f"missing: {', '.join(missing)}" if missing else f"sections: {', '.join(found)}"
    return Finding(found == wanted, detail, observed=float(len(found)), threshold=float(len(wanted)))


def page_complete(page: ReportPage) -> Finding:
    """Judges whether the page is complete HTML that loads nothing from elsewhere."""
    if page.html is None:
        return _no_page(page)
    return none_of(len(problems := list(_problems(page.html))), "; ".join(problems[:5]) or "complete")


def _problems(html: str) -> Iterator[str]:
    if not html.startswith("<!DOCTYPE html>"):
        yield "no doctype"
    if not html.rstrip().endswith("</html>"):
        yield "the end is missing"
    read = _read(html)
    yield from (f"no <{name}>" for name in _NEEDED if name not in read.elements)
    yield from read.problems
    if "@import" in html or "url(http" in html:
        yield "the styles load something"


def _no_page(page: ReportPage) -> Finding:
    """No page is right where nothing is computed: there is nothing to report."""
    if not page.sums:
        return Finding(True, "no report: nothing is computed of this week")
    return Finding(False, "there is no page")
