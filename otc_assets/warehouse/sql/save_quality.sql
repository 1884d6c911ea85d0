-- Saves the grade of a week and tier.
INSERT INTO otc.week_quality (week_ending, tier, grade, score, findings, version)
VALUES (:week_ending, :tier, :grade, :score, CAST(:findings AS jsonb), :version)
ON CONFLICT (week_ending, tier) DO UPDATE
SET grade = excluded.grade, score = excluded.score, findings = excluded.findings,
    version = excluded.version, judged_at = otc.transaction_time()
