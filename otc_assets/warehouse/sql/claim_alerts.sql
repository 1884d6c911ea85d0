-- Claims the pending alerts, and returns them. Once one alert is due, all pending ones are sent with it: one message
-- instead of several. A recovery waits while the alert of its failure is being sent, because its recipients are not
-- known until then. A retry waits for minutes: an alert that is due in more than an hour got that moment while the clock
-- was ahead, and is due.
UPDATE otc.alert SET claimed_until = :until, attempts = attempts + 1, attempted_at = :now
WHERE id IN (
    SELECT id FROM otc.alert
    WHERE state = 'pending' AND (claimed_until IS NULL OR claimed_until <= :now)
      AND NOT EXISTS (
        SELECT FROM otc.alert failure WHERE failure.id = alert.recovery_of AND failure.claimed_until > :now)
      AND EXISTS (
        SELECT FROM otc.alert
        WHERE state = 'pending' AND (due_at <= :now OR due_at > CAST(:now AS timestamptz) + INTERVAL '1 hour')
          AND (claimed_until IS NULL OR claimed_until <= :now))
    FOR UPDATE SKIP LOCKED)
RETURNING id, kind, severity, title, body, run_id, attempts, delivered_to, resolved_at,
    (SELECT delivered_to FROM otc.alert failure WHERE failure.id = alert.recovery_of) AS recipients
