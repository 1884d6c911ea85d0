-- Every symbol of the loaded weeks, with its newest issue name.
SELECT symbol AS name, max(issue_name) AS text FROM otc.symbol GROUP BY symbol ORDER BY symbol
