-- Deletes alerts that were recorded before :before, unless they are pending or prevent another alert: those of checks
-- that still fail, and those of reports.
DELETE FROM otc.alert
WHERE recorded_at < :before AND state <> 'pending' AND (kind = 'run' OR resolved_at < :before)
