-- Replaces what a capture's bytes and the current rules determine: layout, counts of rows, completeness and dates.
UPDATE otc.publication SET
    layout = :layout,
    rows_received = :rows_received,
    rows_accepted = :rows_accepted,
    rows_rejected = :rows_rejected,
    complete = :complete,
    initial_published_date = :initial_published_date,
    last_update_date = :last_update_date,
    ats_last_update_date = :ats_last_update_date,
    non_ats_last_update_date = :non_ats_last_update_date
WHERE id = :id
