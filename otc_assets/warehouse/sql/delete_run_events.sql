-- Deletes the log events of runs that ended before :before, at most :batch at a time; the schema is Dagster's. Returns
-- how many. What the pages of assets and checks are read from remains: materializations and observations, the results
-- of checks that are still listed, and the planned weeks of runs that failed. Of runs that ended before :runs_before,
-- only the newest of these for each asset and week remain; where it is NULL, all of them.
WITH deleted AS (
    DELETE FROM event_logs WHERE id IN (
        SELECT event.id
        FROM runs run JOIN event_logs event USING (run_id)
        WHERE run.status IN ('SUCCESS', 'FAILURE', 'CANCELED')
          AND run.update_timestamp < :before
          AND CASE
              WHEN event.dagster_event_type = 'ASSET_CHECK_EVALUATION_PLANNED' THEN true
              WHEN event.dagster_event_type = 'ASSET_CHECK_EVALUATION' THEN NOT EXISTS (
                  SELECT FROM asset_check_executions listed WHERE listed.evaluation_event_storage_id = event.id
              )
              WHEN event.dagster_event_type = 'ASSET_MATERIALIZATION_PLANNED' AND run.status = 'SUCCESS' THEN true
              WHEN event.dagster_event_type LIKE 'ASSET\_%' THEN
                  run.update_timestamp < CAST(:runs_before AS timestamp)
                  -- Two conditions, because the index of partitions has no entries without one.
                  AND CASE WHEN event.partition IS NULL THEN EXISTS (
                      SELECT FROM event_logs newer
                      WHERE newer.asset_key = event.asset_key AND newer.dagster_event_type = event.dagster_event_type
                        AND newer.id > event.id AND newer.partition IS NULL
                  ) ELSE EXISTS (
                      SELECT FROM event_logs newer
                      WHERE newer.asset_key = event.asset_key AND newer.dagster_event_type = event.dagster_event_type
                        AND newer.id > event.id AND newer.partition = event.partition
                  ) END
              ELSE true
          END
        LIMIT :batch
    )
    RETURNING id
),
tags AS (
    DELETE FROM asset_event_tags WHERE event_id IN (SELECT id FROM deleted)
)
SELECT count(*) FROM deleted
