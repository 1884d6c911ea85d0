-- Loads of weeks, each with the moment from which its rows are known. Of a data set, `loads` is FINRA's name.
SELECT (payload ->> 'week_ending')::date AS week_ending, write_moment,
    CASE event_type WHEN 'otc.week.normalized' THEN 'venue_volume' WHEN 'otc.dataset.captured' THEN payload ->> 'dataset'
        ELSE payload ->> 'table' END AS loads
FROM otc.events WHERE write_moment IS NOT NULL
