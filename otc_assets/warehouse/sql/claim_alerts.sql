-- Claims the pending alerts, and returns them. Once one alert is due, all pending ones are sent with it: one message
-- instead of several.
UPDATE otc.alert SET claimed_until = :until, attempts = attempts + 1, attempted_at = :now
WHERE id IN (
    SELECT id FROM otc.alert
    WHERE state = 'pending' AND (claimed_until IS NULL OR claimed_until <= :now)
      AND EXISTS (
        SELECT FROM otc.alert
        WHERE state = 'pending' AND due_at <= :now AND (claimed_until IS NULL OR claimed_until <= :now))
    FOR UPDATE SKIP LOCKED)
RETURNING id, severity, title, body, run_id, attempts, delivered_to
