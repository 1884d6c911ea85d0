"""The periods of FINRA's neighbouring data sets: trading days, settlement dates and months, and when each is published.

Which data set has which periods is in ``datasets``; the weeks of the weekly publications are in ``weeks``.
"""

from __future__ import annotations

import datetime as dt

from otc_assets.domain.weeks import NEW_YORK, is_trading_day, week_containing, week_start_of, weeks_between

#: FINRA posts the daily short sale volume "no later than 6:00 pm ET". No hour is known of the others.
_POSTED = dt.time(18, 0)

#: FINRA publishes short interest so many business days after the settlement date.
_SHORT_INTEREST_LAG = 7


def trading_days_of(week_ending: dt.date) -> list[dt.date]:
    """The days of a week on which the NYSE trades."""
    start = week_start_of(week_ending)
    return [day for n in range(5) if is_trading_day(day := start + dt.timedelta(days=n))]


def settlement_dates_of(week_ending: dt.date) -> list[dt.date]:
    """The settlement dates of short interest in a week: the 15th and the last day of a month.

    Where such a day is no trading day of the NYSE, the trading day before it.
    """
    return [day for day in trading_days_of(week_ending) if _is_settlement_date(day)]


def next_trading_day(day: dt.date) -> dt.date:
    """The trading day of the NYSE after a day."""
    after = day + dt.timedelta(days=1)
    while not is_trading_day(after):
        after += dt.timedelta(days=1)
    return after


def _is_settlement_date(day: dt.date) -> bool:
    after = next_trading_day(day)
    # Between this trading day and the next one: the 15th, or the last day of the month.
    days = [day + dt.timedelta(days=n) for n in range((after - day).days)]
    return any(each.day == 15 or (each + dt.timedelta(days=1)).day == 1 for each in days)


def posted_on(day: dt.date) -> dt.datetime:
    """The moment by which FINRA publishes what it publishes on a day."""
    return dt.datetime.combine(day, _POSTED, NEW_YORK)


def short_interest_due(settlement_date: dt.date) -> dt.datetime:
    """Seven trading days after the settlement date."""
    day = settlement_date
    for _ in range(_SHORT_INTEREST_LAG):
        day = next_trading_day(day)
    return posted_on(day)


def months_of(week_ending: dt.date) -> list[dt.date]:
    """The first days of the months whose last day is in a week, Monday to Sunday."""
    monday = week_start_of(week_ending)
    days = [monday + dt.timedelta(days=n) for n in range(7)]
    return [day.replace(day=1) for day in days if day == month_end(day)]


def month_end(day: dt.date) -> dt.date:
    """The last day of a month."""
    return (day.replace(day=1) + dt.timedelta(days=31)).replace(day=1) - dt.timedelta(days=1)


def month_due(month: dt.date) -> dt.datetime:
    """The first Monday of the second month after ``month``, or the next trading day where that is none."""
    first = month_end(month_end(month) + dt.timedelta(days=1)) + dt.timedelta(days=1)
    monday = first + dt.timedelta(days=-first.weekday() % 7)
    return posted_on(monday if is_trading_day(monday) else next_trading_day(monday))


def weeks_of_month(month: dt.date) -> list[dt.date]:
    """The weeks that have a weekday in a month."""
    weeks = weeks_between(week_containing(month), week_containing(month_end(month)))
    return [week for week in weeks if week >= month]
