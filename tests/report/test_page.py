"""The page of a report: its sentences in every case, that it is accessible, and that it loads nothing."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from html.parser import HTMLParser

import polars as pl
import pytest
from reports import MADE_AT, WEEK, inputs, six_weeks, volume

from otc_assets.domain.enums import GapStatus
from otc_assets.domain.quality.report import ReportPage, page_complete, sections_present, totals_match_summaries
from otc_assets.domain.report import WEEKLY_REPORT
from otc_assets.domain.schema import REWRITTEN, VENUE_VOLUME
from otc_assets.domain.weeks import OTCE, T1, T2
from otc_assets.report import charts, sentences
from otc_assets.report.inputs import Captured
from otc_assets.report.page import render
from otc_assets.report.selection import contents

ONE, TWO, THREE = T1.name, T2.name, OTCE.name


class Page(HTMLParser):
    """Elements with their attributes, and the text that a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._hidden = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._hidden += tag in ("style", "svg")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("style", "svg")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += data

    def of(self, *tags: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


def plain(text: str) -> str:
    """Text as it is read, without the spaces that keep numbers and units together."""
    return " ".join(text.replace("\u00a0", " ").replace("\u2212", "-").split())


def page_of(*args: object, **changed: object) -> tuple[str, Page]:
    html = render(contents(inputs(*args, **changed)))  # type: ignore[arg-type]
    return html, Page(html)


@pytest.fixture(scope="module")
def full() -> tuple[str, Page]:
    """The page of a week with all tiers, six weeks, revisions of an earlier week, and a late tier's explanation."""
    rewritten = pl.DataFrame(
        [(WEEK - dt.timedelta(weeks=3), ONE, dt.date(2026, 9, 4), 12, Decimal("3456.5"))],
        schema=REWRITTEN,
        orient="row",
    )
    return page_of(six_weeks(), rewritten=rewritten, replaced_rows={ONE: 4})


# --- sentences -----------------------------------------------------------------------------------------


def test_a_tier_is_summarized_per_trading_day_against_its_average_and_its_week_before() -> None:
    """By hand: 1,601,500 shares in five days are 320,300 a day.

    The six weeks have 7,631,500 in 30 days, 254,383 a day: the week is 25.9 % above. ATSs have 1,000,000 of 1,601,500,
    62.4 %, after 601,000 of 1,203,000, 50.0 %.
    """
    rows = six_weeks([ONE])
    weeks = rows.group_by("week_ending").agg(pl.col("share_volume").sum()).sort("week_ending")["share_volume"]
    assert [int(value) for value in weeks] == [1_209_000, 1_207_500, 1_206_000, 1_204_500, 1_203_000, 1_601_500]
    made = sentences.summary(contents(inputs(rows)))
    assert plain(made[0]) == (
        "NMS Tier 1: 320,300 shares per trading day off exchange, 25.9 % above the six-week average. ATSs had "
        "62.4 % of the shares, 12.5 points more than in the week ending 14 Aug 2026."
    )


def test_tiers_that_are_not_due_are_pending_with_the_day_of_their_publication() -> None:
    made = [plain(text) for text in sentences.summary(contents(inputs(six_weeks([ONE]))))]
    assert made[1:] == [
        "NMS Tier 2 and OTC: not published yet. FINRA publishes this week on Monday, 21 September 2026."
    ]


def test_a_tier_that_is_overdue_is_not_called_pending() -> None:
    gaps = {TWO: (GapStatus.LATE, "due since Monday"), THREE: (GapStatus.MISSING_INSIDE, "a later week is captured")}
    made = sentences.summary(contents(inputs(six_weeks([ONE]), gaps=gaps)))
    assert made[1:] == ["NMS Tier 2 and OTC: no rows are captured, although this week should be published."]


def test_the_first_weeks_have_no_average_no_norm_and_no_changes() -> None:
    html, page = page_of(volume([(0, ONE, "AAPL", "UBSA", 900_000), (0, ONE, "AAPL", "7897", 300_000)]))
    text = plain(page.text)
    assert "NMS Tier 1: 240,000 shares per trading day off exchange. ATSs had 75.0 % of the shares." in text
    assert "NMS Tier 1: 1 of 6 weeks captured, too few for an average." in text
    assert "NMS Tier 1: no norm, because too few earlier weeks are captured." in text
    assert "No other changes were found. Changes need an earlier captured week of the tier." in text
    assert " new " not in text  # a venue is new only against a week before
    assert "NaN" not in html


def test_an_average_of_fewer_weeks_says_of_how_many() -> None:
    rows = volume([(ago, ONE, "A", "UBSA", 1_000) for ago in (0, 2, 4)])
    (made, *_) = sentences.summary(contents(inputs(rows)))
    assert "the same as the average of 3 captured weeks" in made
    assert plain(made).endswith("ATSs had 100.0 % of the shares, as in the week ending 7 Aug 2026.")


def test_a_week_with_a_holiday_is_divided_by_its_trading_days() -> None:
    """Labor Day, Monday 2026-09-07: four trading days, and 4,000 shares are 1,000 a day."""
    labor_day = dt.date(2026, 9, 11)
    page = contents(inputs(volume([(0, ONE, "A", "UBSA", 4_000)], labor_day), labor_day))
    assert plain(sentences.trading_week(page)) == ("4 trading days: the NYSE was closed on Monday, 7 September 2026.")
    assert page.tiers[0].daily == 1_000


def test_without_values_the_page_says_why_and_has_a_dash() -> None:
    _, page = page_of(volume([(0, ONE, "A", "UBSA", 1_000)], notional=None))
    assert "NMS Tier 1: no value, because rows from files have none." in plain(page.text)
    assert "$" not in page.text


def test_a_week_without_any_rows_still_has_every_section() -> None:
    """All its captures were withdrawn: the tables are empty."""
    html, page = page_of(VENUE_VOLUME.to_frame())
    assert "No figures are available for this week." in page.text
    evidence = ReportPage(html, {})
    assert all(judge(evidence).passed for judge in (sections_present, page_complete, totals_match_summaries))


def test_a_tier_in_which_nothing_traded_has_no_share() -> None:
    (made, *_) = sentences.summary(contents(inputs(volume([(0, ONE, "A", "UBSA", 0)]))))
    assert made == "NMS Tier 1: no shares traded off exchange."


def test_a_symbol_that_trades_a_multiple_of_its_norm_is_a_mover_with_the_multiple(full: tuple[str, Page]) -> None:
    """By hand: 300,500 to 302,500 shares in the five weeks before, 301,500 in the middle; 700,000 now, 2.32 times."""
    page = contents(inputs(six_weeks([ONE])))
    assert next((row.symbol, row.norm, row.daily) for row in page.movers[ONE]) == ("MSFT", 60_300, 140_000)
    assert "2.32 ×" in plain(full[1].text)


def test_a_revised_earlier_week_and_replaced_rows_of_this_one_are_reported(full: tuple[str, Page]) -> None:
    text = plain(full[1].text)
    assert "FINRA rewrote 12 rows of earlier weeks after 31 Aug 2026 and up to 8 Sep 2026." in text
    assert "31 Jul 2026 NMS Tier 1 12 3,457 4 Sep 2026" in text
    assert "4 rows of NMS Tier 1 of this week have been replaced since they were first loaded" in text


def test_simulated_weeks_say_that_their_figures_are_invented(full: tuple[str, Page]) -> None:
    captured = {ONE: Captured(1, 1, True, None, "http://simulator/data/group/otcMarket/name/weeklySummary")}
    _, page = page_of(six_weeks([ONE]), captured=captured)
    assert "Invented figures." in page.text
    assert "Invented figures." not in full[1].text


def test_texts_of_finra_are_shown_and_never_interpreted() -> None:
    rows = volume([(0, ONE, "A&<b>", "UBSA", 1_000_000)], venue_name='<img src="x" onerror="1">')
    html, page = page_of(rows)
    assert "<img" not in html and "<b>" not in html  # noqa: PT018
    assert '<img src="x" onerror="1">' in page.text


# --- what is judged ------------------------------------------------------------------------------------


def test_the_page_passes_its_checks_and_a_changed_one_does_not(full: tuple[str, Page]) -> None:
    html, _ = full
    rows = six_weeks().filter(pl.col("week_ending") == WEEK)
    shares = pl.col("share_volume")
    is_ats = pl.col("venue_kind") == "ATS"
    sums = {
        row["tier"]: {name: value for name, value in row.items() if name != "tier"}
        for row in rows.group_by("tier")
        .agg(
            shares.sum().alias("total_volume"),
            shares.filter(is_ats).sum().alias("ats_volume"),
            shares.filter(~is_ats).sum().alias("non_ats_volume"),
        )
        .to_dicts()
    }
    judges = (totals_match_summaries, sections_present, page_complete)

    def passed(changed: str | None) -> list[bool]:
        return [judge(ReportPage(changed, sums)).passed for judge in judges]

    assert passed(html) == [True, True, True]
    assert passed(None) == [False, False, False]
    assert passed(html.replace('value="1000000.000000"', 'value="1000000.000001"', 1)) == [False, True, True]
    assert passed(html.replace('<section id="movers"', '<section id="other"', 1)) == [True, False, True]
    assert passed(html[: len(html) // 2])[1:] == [False, False]
    assert passed(html.replace("</table>", "", 1)) == [True, True, False]
    assert passed(html.replace("<footer>", '<script src="https://example.org/x.js"></script><footer>')) == [
        *(True, True),
        False,
    ]


def test_a_week_of_which_nothing_is_computed_needs_no_page_and_a_page_of_dropped_figures_stays(
    full: tuple[str, Page],
) -> None:
    judges = (totals_match_summaries, sections_present, page_complete)
    for sums in (None, {}):
        found = [judge(ReportPage(None, sums)) for judge in judges]
        assert [(each.passed, each.detail) for each in found] == [
            (True, "no report: nothing is computed of this week")
        ] * 3
    assert [judge(ReportPage(full[0], None)).passed for judge in judges] == [True, True, True]
    # The week is computed, and its tables are empty: a page with figures is wrong.
    assert [judge(ReportPage(full[0], {})).passed for judge in judges] == [False, True, True]


# --- accessibility -------------------------------------------------------------------------------------


def test_the_page_has_a_language_one_heading_landmarks_and_headings_in_order(full: tuple[str, Page]) -> None:
    _, page = full
    assert page.of("html") == [{"lang": "en"}]
    assert len(page.of("h1")) == len(page.of("main")) == len(page.of("header")) == len(page.of("footer")) == 1
    assert [nav["aria-label"] for nav in page.of("nav")] == ["Sections"]
    assert [tag for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)] == ["h1"] + ["h2"] * 9
    sections = page.of("section")
    assert [section["id"] for section in sections] == list(WEEKLY_REPORT.sections)
    assert all(section["aria-labelledby"] == f"h-{section['id']}" for section in sections)


def test_every_reference_within_the_page_has_its_target_and_every_identifier_is_unique(full: tuple[str, Page]) -> None:
    _, page = full
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    wanted = [a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a]
    wanted += [a["href"][1:] for a in page.of("a") if a["href"].startswith("#")]
    assert set(wanted) <= set(identifiers)


def test_every_chart_has_a_text_alternative_with_its_figures(full: tuple[str, Page]) -> None:
    _, page = full
    images = page.of("svg", "img")
    assert len(images) == 3 * 2 + 3 + 1  # volume and share of three tiers, their movers, the markets
    assert all(image["role"] == "img" and len(image["aria-label"]) > 40 for image in images)
    assert not [a for tag, a in page.elements if "role" in a and tag not in ("svg", "div")]
    assert "14 Aug ATSs 0.1, others 0.1; 21 Aug ATSs 0.2, others 0.1." in plain(images[0]["aria-label"])


def test_every_table_has_a_caption_and_headings_with_their_scope(full: tuple[str, Page]) -> None:
    html, page = full
    tables = re.findall(r"<table.*?</table>", html, re.S)
    assert len(tables) == len(page.of("table")) > 10
    for table in tables:
        found = Page(table)
        assert len(found.of("caption")) == 1
        columns = [head for head in found.of("th") if head["scope"] == "col"]
        rows = [head for head in found.of("th") if head["scope"] == "row"]
        assert len(columns) + len(rows) == len(found.of("th"))
        assert len(rows) == len(found.of("tr")) - 1
        assert len(found.of("td")) == len(rows) * (len(columns) - 1)


def _luminance(colour: str) -> float:
    """Of WCAG 2.1: https://www.w3.org/TR/WCAG21/#dfn-relative-luminance"""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_texts_have_a_contrast_of_4_5_and_the_colours_of_charts_one_of_3(full: tuple[str, Page]) -> None:
    html, _ = full
    style = re.search(r"<style>(.*?)</style>", html, re.S)
    assert style is not None
    texts = set(re.findall(r"(?<![-\w])color: (#[0-9a-f]{6})", style[1]))
    grounds = set(re.findall(r"background: (#[0-9a-f]{6})", style[1])) - {charts.ATS, charts.NON_ATS}
    assert texts == {charts.INK, charts.MUTED, charts.ATS}
    assert grounds == {"#ffffff", "#fdf3e7"}
    assert all(_contrast(text, ground) >= 4.5 for text in texts for ground in grounds)
    assert all(_contrast(colour, "#ffffff") >= 3 for colour in (charts.ATS, charts.NON_ATS, charts.MUTED))
    drawn = set(re.findall(r'fill="(#[0-9a-f]{6})"', html)) - {charts.ATS, charts.NON_ATS}
    assert drawn <= {charts.INK, charts.MUTED}


def test_the_page_loads_nothing_and_links_to_finra_alone(full: tuple[str, Page]) -> None:
    html, page = full
    links = {a["href"] for a in page.of("a") if not a["href"].startswith("#")}
    assert links == {
        "https://www.finra.org/filing-reporting/otc-transparency",
        "https://developer.finra.org/specific-terms-equity-data",
    }
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", html)) - links
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not page.of("script", "link", "img", "iframe", "object")


def test_the_moment_and_the_week_are_unambiguous(full: tuple[str, Page]) -> None:
    text = plain(full[1].text)
    assert "Week ending Friday, 21 August 2026" in text
    assert "5 trading days. Figures as stored on 30 Sep 2026, 10:05 UTC." in text
    assert MADE_AT.utcoffset() == dt.timedelta(0)
