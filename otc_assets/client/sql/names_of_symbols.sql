-- Every symbol of the loaded weeks, with one of its issue names.
SELECT symbol AS name, max(issue_name) AS text FROM otc.symbol GROUP BY symbol ORDER BY symbol
