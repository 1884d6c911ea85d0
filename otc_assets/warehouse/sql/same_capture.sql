-- The capture of the same bytes that was recorded before; no row if there is none.
-- The same bytes are recorded once: FINRA dates every revision, so bytes that were recorded before are an older capture.
-- A full publication is what FINRA's API returns now: if FINRA restored an earlier state, it is recorded again.
SELECT id, revision FROM (
    SELECT id, revision, digest, summary_type, scope, revision = max(revision) OVER () AS newest
    FROM otc.publication
    WHERE week_ending = :week_ending AND tier = :tier AND scope = :scope
) earlier
WHERE digest = :digest AND summary_type IS NOT DISTINCT FROM :summary_type AND (newest OR scope <> 'FULL')
ORDER BY revision DESC LIMIT 1
