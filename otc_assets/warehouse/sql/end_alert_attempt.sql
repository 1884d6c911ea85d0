-- Ends an attempt on claimed alerts: delivered if every destination has them, else pending again.
UPDATE otc.alert SET
    claimed_until = NULL,
    state = CASE WHEN delivered_to @> CAST(:destinations AS text[]) THEN 'delivered' ELSE 'pending' END,
    delivered_at = CASE WHEN delivered_to @> CAST(:destinations AS text[]) THEN CAST(:now AS timestamptz) END,
    last_error = CAST(:error AS text),
    due_at = :again_at
WHERE id = ANY(:ids)
