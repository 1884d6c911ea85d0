-- The number of ticks up to an id, by sensor or schedule and status. The name is inside a tick's body: JSON, which
-- PostgreSQL refuses as such if an error in it has a NUL. One body per group is read, and not every one.
SELECT coalesce(substring(newest.tick_body FROM '"job_name": *"([^"]*)"'), '') AS name,
       counted.type, counted.status, counted.ticks
FROM (
    SELECT job_origin_id, type, status, count(*) AS ticks, max(id) AS newest
    FROM job_ticks WHERE id <= %(after)s AND status = ANY(%(ended)s)
    GROUP BY job_origin_id, type, status
) counted JOIN job_ticks newest ON newest.id = counted.newest
