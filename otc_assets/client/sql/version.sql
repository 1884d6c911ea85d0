-- A digest of what weeks were computed from, and when the last of them was. Loads of the same inputs differ by their xid.
SELECT count(*) || ':' || coalesce(sum(hashtextextended(concat_ws(' ', week_ending, version, xid), 0)), 0) AS version,
    max(computed_at) AS loaded
FROM otc.computed_week
