-- Resolves the alerts of a subject, and records the recovery of the newest one that was sent or is being sent. The
-- subject of a recovery is its own, so that it is neither a failure nor resolved by a later event. An attempt of a later
-- moment was made while the clock was ahead, and is not waited for.
WITH resolved AS (
    UPDATE otc.alert SET resolved_at = :happened_at, resolved_by = :event_id
    WHERE subject = :subject AND event_id < :event_id AND (resolved_by IS NULL OR resolved_by > :event_id)
    RETURNING *
)
INSERT INTO otc.alert (dedupe_key, kind, subject, severity, week_ending, title, body, run_id, event_id,
    happened_at, recorded_at, due_at, resolved_at, resolved_by, recovery_of)
SELECT 'recovery of ' || dedupe_key, :kind, 'recovery of ' || subject, severity, week_ending, :title, :body,
    CAST(:run_id AS text), :event_id, :happened_at, CAST(:now AS timestamptz),
    greatest(:now, (SELECT max(attempted_at) FROM otc.alert WHERE attempted_at <= :now) + CAST(:quiet AS interval)),
    :happened_at, :event_id, id
FROM resolved
WHERE delivered_to <> '{}' OR claimed_until > :now
ORDER BY id DESC LIMIT 1
ON CONFLICT (dedupe_key) DO NOTHING
