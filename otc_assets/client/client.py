"""The client: one method per verb that is read most, each of which reads a selection into a Polars frame."""

from __future__ import annotations

import polars as pl

from otc_assets.client.errors import InvalidQuery
from otc_assets.client.explain import check_names
from otc_assets.client.reader import Reader
from otc_assets.client.selection import MomentLike, SinceLike, ValuesLike, select
from otc_assets.client.verbs import sql_text
from otc_assets.client.weeks import WeeksLike


class Client(Reader):
    """Reads the data of an installation. It never writes.

    Every method returns a Polars frame; ``.to_pandas()`` makes one of pandas of it. Shares and money are exact
    decimals. Parameters that several methods have:

    - ``symbols``, ``venues``, ``tiers`` and others: one value or several; without them, all. Symbols are
      case-sensitive. Tiers are T1, T2 and OTCE, or FINRA's names.
    - ``weeks``: a week by any of its days (``"2026-08-21"`` or a date), a range (``"2026-08-07..2026-08-28"``, either
      end may be missing), ``"last 12"``, ``"newest"``, or a list of these; without it, all weeks. The newest weeks
      are counted back from the newest week of the tiers asked for.
    - ``as_of``: a moment with a time zone: the rows as they were known then.
    - ``columns``: only these. ``limit``: the largest number of rows.

    Rows are ordered by their key, weeks first. Where a symbol or venue does not exist, or the weeks are not loaded, an
    error says why. A symbol that did not trade in loaded weeks has no rows.

    Args:
        url: of the database. Without it, ``OTC_DATABASE_URL``, or the embedded database of 'otc-assets up'.
        decimals: False turns decimals into floats, which are rounded to about 15 digits.
        timeout: seconds after which the server stops a statement; 0 for never.
        connections: the largest number of connections; several threads may use one client.

    >>> from otc_assets.client import Client
    >>> otc = Client()
    >>> otc.summary("AAPL", weeks="newest", columns=["symbol", "tier"]).rows()
    [('AAPL', 'NMS Tier 1')]
    """

    # --- the verbs -----------------------------------------------------------------------------------------

    def venue_volume(
        self,
        symbols: ValuesLike = None,
        *,
        venues: ValuesLike = None,
        tiers: ValuesLike = None,
        venue_kinds: ValuesLike = None,
        weeks: WeeksLike = None,
        as_of: MomentLike = None,
        columns: ValuesLike = None,
        limit: int | None = None,
    ) -> pl.DataFrame:
        """Shares and trades of symbols at venues, week by week.

        >>> rows = otc.venue_volume("AAPL", venue_kinds="ATS", weeks="newest")
        >>> rows["share_volume"].sum() == otc.summary("AAPL", weeks="newest")["ats_volume"].item()
        True
        """
        filters = {"symbols": symbols, "venues": venues, "tiers": tiers, "venue_kinds": venue_kinds}
        return self.read("venue_volume", filters, weeks=weeks, as_of=as_of, columns=columns, limit=limit)

    def summary(
        self,
        symbols: ValuesLike = None,
        *,
        tiers: ValuesLike = None,
        weeks: WeeksLike = None,
        as_of: MomentLike = None,
        columns: ValuesLike = None,
        limit: int | None = None,
    ) -> pl.DataFrame:
        """Volume, trades, venues, average trade size and top venue of symbols, week by week.

        >>> otc.summary(["AAPL", "SPY"], weeks="newest")["symbol"].to_list()
        ['AAPL', 'SPY']
        """
        filters = {"symbols": symbols, "tiers": tiers}
        return self.read("summary", filters, weeks=weeks, as_of=as_of, columns=columns, limit=limit)

    def rolling(
        self,
        symbols: ValuesLike = None,
        *,
        tiers: ValuesLike = None,
        weeks: WeeksLike = None,
        as_of: MomentLike = None,
        columns: ValuesLike = None,
        limit: int | None = None,
    ) -> pl.DataFrame:
        """Six-week averages of symbols, and their weeks compared with them, within each tier.

        ``tiers="ALL"`` has the rows over all tiers instead, which contain those of the tiers.

        >>> otc.rolling("AAPL", weeks="newest", columns=["tier", "weeks_in_window"]).rows()
        [('NMS Tier 1', 6)]
        >>> set(otc.rolling("AAPL", tiers="ALL")["tier"])
        {'ALL'}
        """
        filters = {"symbols": symbols, "tiers": tiers}
        return self.read("rolling", filters, weeks=weeks, as_of=as_of, columns=columns, limit=limit)

    def venue_rolling(
        self,
        venues: ValuesLike = None,
        *,
        tiers: ValuesLike = None,
        venue_kinds: ValuesLike = None,
        weeks: WeeksLike = None,
        as_of: MomentLike = None,
        columns: ValuesLike = None,
        limit: int | None = None,
    ) -> pl.DataFrame:
        """Six-week averages of venues in a tier, and their weeks compared with them.

        >>> otc.venue_rolling("UBSA", tiers="T1", weeks="newest")["venue_kind"].item()
        'ATS'
        """
        filters = {"venues": venues, "tiers": tiers, "venue_kinds": venue_kinds}
        return self.read("venue_rolling", filters, weeks=weeks, as_of=as_of, columns=columns, limit=limit)

    def concentration(
        self,
        symbols: ValuesLike = None,
        *,
        scopes: ValuesLike = None,
        tiers: ValuesLike = None,
        weeks: WeeksLike = None,
        as_of: MomentLike = None,
        columns: ValuesLike = None,
        limit: int | None = None,
    ) -> pl.DataFrame:
        """HHI, top shares and effective venues of symbols, over all venues.

        ``scopes="ATS"`` or ``"NON_ATS"`` is over these venues only. ALL contains both.

        >>> otc.concentration("AAPL", weeks="newest")["venue_scope"].to_list()
        ['ALL']
        """
        filters = {"symbols": symbols, "scopes": scopes, "tiers": tiers}
        return self.read("concentration", filters, weeks=weeks, as_of=as_of, columns=columns, limit=limit)

    def market_concentration(
        self,
        *,
        scopes: ValuesLike = None,
        tiers: ValuesLike = None,
        weeks: WeeksLike = None,
        as_of: MomentLike = None,
        columns: ValuesLike = None,
        limit: int | None = None,
    ) -> pl.DataFrame:
        """HHI, top shares and effective venues of the market, by tier; ``tiers="ALL"`` is over all tiers.

        >>> otc.market_concentration(tiers="T1", weeks="newest").height
        1
        """
        filters = {"scopes": scopes, "tiers": tiers}
        return self.read("market_concentration", filters, weeks=weeks, as_of=as_of, columns=columns, limit=limit)

    def shares(
        self,
        venues: ValuesLike = None,
        *,
        tiers: ValuesLike = None,
        venue_kinds: ValuesLike = None,
        weeks: WeeksLike = None,
        as_of: MomentLike = None,
        columns: ValuesLike = None,
        limit: int | None = None,
    ) -> pl.DataFrame:
        """Volume, market share and rank of venues in a tier, week by week.

        >>> otc.shares(tiers="T1", weeks="newest")["market_share_pct"].sum().__round__(2)
        Decimal('100.00')
        """
        filters = {"venues": venues, "tiers": tiers, "venue_kinds": venue_kinds}
        return self.read("shares", filters, weeks=weeks, as_of=as_of, columns=columns, limit=limit)

    def changes(
        self,
        *,
        kinds: ValuesLike = None,
        symbols: ValuesLike = None,
        venues: ValuesLike = None,
        tiers: ValuesLike = None,
        weeks: WeeksLike = None,
        as_of: MomentLike = None,
        columns: ValuesLike = None,
        limit: int | None = None,
    ) -> pl.DataFrame:
        """What changed from one week to the next, one row per change, ranked within its kind.

        >>> otc.changes(kinds="venue_share", tiers="T1", weeks="newest")["rank"][0]
        1
        """
        filters = {"kinds": kinds, "symbols": symbols, "venues": venues, "tiers": tiers}
        return self.read("changes", filters, weeks=weeks, as_of=as_of, columns=columns, limit=limit)

    def symbols(
        self,
        symbols: ValuesLike = None,
        *,
        tiers: ValuesLike = None,
        weeks: WeeksLike = None,
        as_of: MomentLike = None,
        columns: ValuesLike = None,
        limit: int | None = None,
    ) -> pl.DataFrame:
        """Issue name, tier and product type of symbols in each week, and what has changed since they last traded.

        >>> otc.symbols("AAPL", weeks="newest")["issue_name"].item()
        'Apple Inc. Common Stock'
        """
        filters = {"symbols": symbols, "tiers": tiers}
        return self.read("symbols", filters, weeks=weeks, as_of=as_of, columns=columns, limit=limit)

    def venues(
        self,
        venues: ValuesLike = None,
        *,
        venue_kinds: ValuesLike = None,
        weeks: WeeksLike = None,
        as_of: MomentLike = None,
        columns: ValuesLike = None,
        limit: int | None = None,
    ) -> pl.DataFrame:
        """Name, kind and identity of venues in each week.

        >>> otc.venues("UBSA", weeks="newest")["venue_kind"].item()
        'ATS'
        """
        filters = {"venues": venues, "venue_kinds": venue_kinds}
        return self.read("venues", filters, weeks=weeks, as_of=as_of, columns=columns, limit=limit)

    def revisions(
        self,
        symbols: ValuesLike = None,
        *,
        venues: ValuesLike = None,
        tiers: ValuesLike = None,
        weeks: WeeksLike = None,
        since: SinceLike = None,
        columns: ValuesLike = None,
        limit: int | None = None,
    ) -> pl.DataFrame:
        """Rows of venue volume that FINRA revised, as they were, beside the rows of today.

        Args:
            symbols, venues, tiers, weeks, columns, limit: as in every method.
            since: only revisions from this day on, which begins at midnight in New York; or from a moment with a time
                zone.

        >>> set(otc.revisions("AAPL")["change"]) <= {"changed", "removed", "added"}
        True
        """
        filters = {"symbols": symbols, "venues": venues, "tiers": tiers}
        selection = select("revisions", filters, weeks=weeks, since=since, columns=columns, limit=limit)
        return self.rows(selection)

    def gaps(self, *, tiers: ValuesLike = None, weeks: WeeksLike = None, columns: ValuesLike = None) -> pl.DataFrame:
        """Publications that are expected and not captured completely: missing, late, incomplete, empty or pending.

        >>> set(otc.gaps(tiers="T2")["status"])
        {'pending'}
        """
        return self.read("gaps", {"tiers": tiers}, weeks=weeks, columns=columns)

    def coverage(
        self, *, tiers: ValuesLike = None, weeks: WeeksLike = None, columns: ValuesLike = None
    ) -> pl.DataFrame:
        """What is loaded of each week and tier: rows, shares, grade, revisions, and the gap if there is one.

        >>> otc.coverage(tiers="T1", weeks="newest")["grade"].item()
        'A'
        """
        return self.read("coverage", {"tiers": tiers}, weeks=weeks, columns=columns)

    # --- names ---------------------------------------------------------------------------------------------

    def describe(self, symbol: str) -> pl.DataFrame:
        """What is known of a symbol: names, weeks, and the figures of its newest week; one row per tier of that week.

        Raises:
            UnknownName: no loaded week has it; the message has near ones.

        >>> otc.describe("AAPL")["issue_name"].item()
        'Apple Inc. Common Stock'
        """
        return self._described("symbol", symbol)

    def describe_venue(self, venue: str) -> pl.DataFrame:
        """What is known of a venue: name, kind, weeks, and its share and rank in its newest week, by tier.

        Raises:
            UnknownName: no loaded week has it; the message has near ones.

        >>> otc.describe_venue("UBSA")["venue_id"][0]
        'UBSA'
        """
        return self._described("venue", venue)

    def _described(self, what: str, name: str) -> pl.DataFrame:
        frame = self._query(sql_text(f"describe_{what}"), {"name": name})
        if frame.is_empty():
            check_names(self._query, {"symbol": "symbol", "venue": "venue_id"}[what], [name])
        return self._converted(frame)

    def find(self, text: str, *, limit: int = 20) -> pl.DataFrame:
        """Symbols and venues whose identifier or name contains ``text``, in any case.

        >>> otc.find("citadel").select("what", "id").row(0)
        ('venue', '116797')
        """
        if not text.strip():
            raise InvalidQuery("there is nothing to find", remedy="Write a part of a symbol, a name or an MPID.")
        escaped = text.strip().replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
        params = {"text": text.strip(), "pattern": f"%{escaped}%", "prefix": f"{escaped}%", "limit": limit}
        return self._query(sql_text("find"), params)
