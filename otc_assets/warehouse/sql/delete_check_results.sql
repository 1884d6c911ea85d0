-- Deletes the results of checks from before :before, except for the newest of each check and week; the schema is
-- Dagster's. Returns how many.
WITH ranked AS (
    SELECT id, create_timestamp,
           row_number() OVER (PARTITION BY asset_key, check_name, partition ORDER BY id DESC) AS age
    FROM asset_check_executions
),
deleted AS (
    DELETE FROM asset_check_executions
    WHERE id IN (SELECT id FROM ranked WHERE age > 1 AND create_timestamp < :before)
    RETURNING 1
)
SELECT count(*) FROM deleted
