-- Records an alert, unless an earlier alert covers it: events are read in order, and some more than once. A failure is
-- covered by an alert that was recorded before it and was not resolved by then, unless the failure is more severe.
-- An attempt of a later moment was made while the clock was ahead, and is not waited for.
INSERT INTO otc.alert (dedupe_key, kind, subject, severity, week_ending, title, body, run_id, event_id,
    happened_at, blocking, recorded_at, due_at)
SELECT :dedupe_key, :kind, :subject, :severity, CAST(:week_ending AS date), :title, :body,
    CAST(:run_id AS text), :event_id, :happened_at, CAST(:blocking AS boolean), CAST(:now AS timestamptz),
    greatest(:now, (
        SELECT max(attempted_at) FROM otc.alert
        WHERE attempted_at <= :now AND recovery_of IS NULL AND (severity = 'error' OR :severity = 'warn')
          AND (blocking OR NOT CAST(:blocking AS boolean))
    ) + CAST(:quiet AS interval))
WHERE NOT EXISTS (
    SELECT FROM otc.alert earlier
    WHERE earlier.subject = :subject AND earlier.event_id <= :event_id
      AND (earlier.resolved_by IS NULL OR earlier.resolved_by > :event_id)
      AND (earlier.severity = 'error' OR :severity = 'warn'))
ON CONFLICT (dedupe_key) DO NOTHING
