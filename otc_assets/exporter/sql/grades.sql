-- The grades of the newest weeks.
SELECT week_ending::text AS week, tier, grade FROM otc.week_quality
WHERE week_ending >= (
    SELECT min(week_ending) FROM (
        SELECT DISTINCT week_ending FROM otc.week_quality ORDER BY week_ending DESC LIMIT %(newest)s
    ) newest
)
