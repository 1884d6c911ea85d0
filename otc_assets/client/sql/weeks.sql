-- The captured weeks, each with the tiers, rows and grades of it.
SELECT week_ending, string_agg(tier, ', ' ORDER BY tier) AS tiers, sum(rows)::bigint AS rows, sum(shares) AS shares,
    max(grade) AS worst_grade, sum(revisions)::bigint AS revisions, max(captured_at) AS captured_at
FROM otc.week_state WHERE captured_at IS NOT NULL
GROUP BY week_ending
