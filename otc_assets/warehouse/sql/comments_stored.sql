-- The stored comments of all tables and views: one row per table, its column NULL, and one row per column.
SELECT c.relname, a.attname, d.description
FROM pg_class c
JOIN LATERAL (
    SELECT 0 AS attnum, CAST(NULL AS text) AS attname
    UNION ALL
    SELECT attnum, attname FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
) a ON true
LEFT JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = c.oid AND d.objsubid = a.attnum
WHERE c.relnamespace = 'otc'::regnamespace AND c.relkind IN ('r', 'p', 'v')
ORDER BY c.relname, a.attnum
