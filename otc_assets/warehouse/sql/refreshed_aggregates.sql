-- One row per continuous aggregate that a job of the server refreshes: its name, and the job's size of batches.
SELECT c.view_name, CAST(j.config ->> 'buckets_per_batch' AS integer) AS buckets_per_batch
FROM timescaledb_information.jobs j
JOIN timescaledb_information.continuous_aggregates c
  ON (j.hypertable_schema, j.hypertable_name) IN
     ((c.materialization_hypertable_schema, c.materialization_hypertable_name), (c.view_schema, c.view_name))
WHERE c.view_schema = 'otc' AND j.proc_name = 'policy_refresh_continuous_aggregate'
