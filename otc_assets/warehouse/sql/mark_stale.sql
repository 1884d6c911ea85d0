-- Makes computed weeks stale: venue volume and every figure of :week_ending, what is computed from several weeks
-- (:rolling) until :until, and the estimates until :estimates_until.
-- Only weeks that are computed have a version, so nothing is computed that was not computed before.
UPDATE otc.computed_week SET version = 'rebuild'
WHERE (week_ending = :week_ending AND table_name = ANY(:tables))
   OR (week_ending BETWEEN :week_ending AND :until AND table_name = ANY(:rolling))
   OR (week_ending BETWEEN :week_ending AND :estimates_until AND table_name = ANY(:estimates))
