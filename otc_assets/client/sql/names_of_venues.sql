-- Every venue of the loaded weeks, with a name of it.
SELECT venue_id AS name, max(venue_name) AS text FROM otc.venue GROUP BY venue_id ORDER BY venue_id
