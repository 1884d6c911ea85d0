-- What is loaded of each week and tier, and the gap if there is one.
SELECT week_ending, tier, s.state, s.rows, s.shares, s.grade, s.score, s.revisions, s.captured_at,
    g.status AS gap, g.due, g.detail
FROM otc.week_state AS s FULL JOIN otc.gap AS g USING (week_ending, tier)
