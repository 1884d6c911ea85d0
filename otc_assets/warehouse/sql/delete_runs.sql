-- Deletes runs that ended before :runs_before and of which no event is left, with their tags, and backfills that ended
-- and began before then; the schema is Dagster's. Returns how many of each.
WITH deleted AS (
    DELETE FROM runs run
    WHERE run.status IN ('SUCCESS', 'FAILURE', 'CANCELED')
      AND run.update_timestamp < CAST(:runs_before AS timestamp)
      AND NOT EXISTS (SELECT FROM event_logs event WHERE event.run_id = run.run_id)
    RETURNING 1
),
backfills AS (
    DELETE FROM bulk_actions
    WHERE status IN ('COMPLETED', 'COMPLETED_SUCCESS', 'COMPLETED_FAILED', 'FAILED', 'CANCELED')
      AND "timestamp" < CAST(:runs_before AS timestamp)
    RETURNING key
),
tags AS (
    DELETE FROM backfill_tags WHERE backfill_id IN (SELECT key FROM backfills)
)
SELECT (SELECT count(*) FROM deleted) AS runs, (SELECT count(*) FROM backfills) AS backfills
