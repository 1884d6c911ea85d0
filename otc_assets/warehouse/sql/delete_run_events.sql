-- Deletes the log events of runs that ended before :before, at most :batch at a time; the schema is Dagster's. Returns
-- how many. What the pages of assets and checks are read from remains: materializations and observations, the results
-- of checks that are still listed, and the planned weeks of runs that failed.
WITH deleted AS (
    DELETE FROM event_logs WHERE id IN (
        SELECT event.id
        FROM runs run JOIN event_logs event USING (run_id)
        WHERE run.status IN ('SUCCESS', 'FAILURE', 'CANCELED')
          AND run.update_timestamp < :before
          AND NOT CASE coalesce(event.dagster_event_type, '')
              WHEN 'ASSET_MATERIALIZATION_PLANNED' THEN run.status <> 'SUCCESS'
              WHEN 'ASSET_CHECK_EVALUATION_PLANNED' THEN false
              WHEN 'ASSET_CHECK_EVALUATION' THEN EXISTS (
                  SELECT FROM asset_check_executions listed WHERE listed.evaluation_event_storage_id = event.id
              )
              ELSE coalesce(event.dagster_event_type, '') LIKE 'ASSET\_%'
          END
        LIMIT :batch
    )
    RETURNING 1
)
SELECT count(*) FROM deleted
