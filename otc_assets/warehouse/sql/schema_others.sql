-- The other objects of the schema, each as text: indexes, triggers, views, then functions by their signatures.
SELECT text FROM (
    SELECT 1 AS place, indexname::text AS name, indexdef || ';' AS text FROM pg_indexes
    WHERE schemaname = 'otc' AND NOT EXISTS (
        SELECT FROM pg_constraint WHERE connamespace = 'otc'::regnamespace AND conname = indexname)
    UNION ALL
    SELECT 2, tgname::text, pg_get_triggerdef(t.oid) || ';' FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE c.relnamespace = 'otc'::regnamespace AND NOT t.tgisinternal
    UNION ALL
    SELECT 3, viewname::text, format(E'CREATE VIEW otc.%I AS\n%s', viewname, definition) FROM pg_views
    WHERE schemaname = 'otc'
    UNION ALL
    SELECT 4, proname::text, format(E'-- otc.%s(%s)%s', proname, pg_get_function_arguments(oid),
        E'\n--     ' || obj_description(oid, 'pg_proc')) FROM pg_proc
    WHERE pronamespace = 'otc'::regnamespace
) objects
ORDER BY place, name
