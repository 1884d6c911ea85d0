-- The loaded weeks and tiers, with state and grade, and whether a table has the week. What is not computed by week has
-- all of them.
SELECT s.week_ending, s.tier, s.state, s.grade,
    EXISTS (SELECT FROM otc.computed_week AS c
            WHERE c.table_name = %(table)s AND c.week_ending = s.week_ending)
    OR NOT %(by_week)s AS computed
FROM otc.week_state AS s
WHERE s.tier = ANY(%(tiers)s) AND s.captured_at IS NOT NULL
ORDER BY s.week_ending, s.tier
