-- The number of rows of an asset's weeks between two weeks, oldest first: of a computed table, of a data set's newest
-- captures, or of a tier's newest captures. Names that are none of the kind select nothing.
SELECT week_ending, rows FROM otc.computed_week
WHERE table_name = :name AND week_ending BETWEEN :first AND :last
UNION ALL
SELECT week_ending, sum(rows_accepted)::bigint FROM (
    SELECT DISTINCT ON (period) week_ending, rows_accepted FROM otc.dataset_capture
    WHERE dataset = :dataset AND week_ending BETWEEN :first AND :last ORDER BY period, id DESC
) newest GROUP BY week_ending
UNION ALL
SELECT week_ending, sum(rows_accepted)::bigint FROM (
    SELECT DISTINCT ON (week_ending, scope) week_ending, rows_accepted FROM otc.publication
    WHERE tier = :tier AND week_ending BETWEEN :first AND :last ORDER BY week_ending, scope, id DESC
) newest GROUP BY week_ending
ORDER BY week_ending;
