-- Makes computed weeks stale: venue volume and every figure of :week_ending, and the tables of :rolling until :until.
-- Only weeks that are computed have a version, so nothing is computed that was not computed before.
UPDATE otc.computed_week SET version = 'rebuild'
WHERE (week_ending = :week_ending AND table_name = ANY(:tables))
   OR (week_ending > :week_ending AND week_ending <= :until AND table_name = ANY(:rolling))
