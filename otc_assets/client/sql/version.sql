-- A digest of the loads of weeks, and when the last of them was. Loads of the same inputs differ by their xid. Captures of
-- data sets do not have the known_from of their rows, so that the last moment is that of any capture. They stay when
-- retention deletes the rows of their week: the classes of tables that were deleted up to it are in its mark.
SELECT count(*) || ':' || coalesce(sum(hashtextextended(mark, 0)), 0) AS version, max(moment) AS loaded
FROM (
    SELECT table_name AS loads, week_ending, concat_ws(' ', week_ending, version, xid) AS mark, computed_at AS moment
    FROM otc.computed_week
    UNION ALL
    SELECT dataset, week_ending, concat_ws(' ', 'capture', id,
            (SELECT string_agg(what, ' ' ORDER BY what) FROM otc.retention WHERE dropped_until >= week_ending)),
        (SELECT max(write_moment) FROM otc.events WHERE event_type = 'otc.dataset.captured')
    FROM otc.dataset_capture
) AS recorded
