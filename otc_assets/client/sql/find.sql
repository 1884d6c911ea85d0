-- Symbols and venues whose identifier or name contains a text, in any case: exact and leading matches first.
WITH found AS (
    SELECT 'symbol' AS what, symbol AS id, issue_name AS name, tier AS detail, week_ending
    FROM otc.symbol WHERE symbol ILIKE %(pattern)s OR issue_name ILIKE %(pattern)s
    UNION ALL
    SELECT 'venue', venue_id, venue_name, venue_kind, week_ending
    FROM otc.venue WHERE venue_id ILIKE %(pattern)s OR venue_name ILIKE %(pattern)s
), newest AS (
    SELECT what, id, min(week_ending) AS first_week, max(week_ending) AS last_week,
        (array_agg(name ORDER BY week_ending DESC))[1] AS name,
        (array_agg(detail ORDER BY week_ending DESC))[1] AS detail
    FROM found GROUP BY what, id
)
SELECT what, id, name, detail, first_week, last_week FROM newest
ORDER BY lower(id) = lower(%(text)s) DESC, id ILIKE %(prefix)s DESC, what, last_week DESC, id
LIMIT %(limit)s
