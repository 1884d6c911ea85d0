-- Marks recoveries as discarded if no destination of :destinations has their failure, or the check has failed since.
UPDATE otc.alert recovery SET state = 'discarded', attempts = 0
FROM otc.alert failure
WHERE recovery.recovery_of = failure.id AND recovery.state = 'pending'
  AND (failure.claimed_until IS NULL OR failure.claimed_until <= :now)
  AND (NOT failure.delivered_to && CAST(:destinations AS text[])
    OR EXISTS (
        SELECT FROM otc.alert later
        WHERE later.subject = failure.subject AND later.event_id > recovery.event_id))
