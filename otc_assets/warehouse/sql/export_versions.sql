-- (name, week_ending, version) of what identifies the rows of a week: the versions of computed tables, each with its
-- moment, because a rule can change without its code version; and the newest capture of each of the other data sets,
-- which replaces the rows of its period.
SELECT table_name AS name, week_ending, concat_ws(' ', version, extract(epoch FROM computed_at)) AS version
FROM otc.computed_week WHERE week_ending BETWEEN :first AND :last
UNION ALL
SELECT dataset, week_ending, 'capture ' || max(id) FROM otc.dataset_capture
WHERE week_ending BETWEEN :first AND :last GROUP BY dataset, week_ending
