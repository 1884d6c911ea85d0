-- One row per column of every table: its definition and comment, and its table's comment, in the order of the tables.
SELECT c.relname AS name, obj_description(c.oid, 'pg_class') AS table_comment, col_description(c.oid, a.attnum) AS note,
    concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.attidentity <> '' THEN 'GENERATED ALWAYS AS IDENTITY'
             WHEN a.attgenerated <> '' THEN format('GENERATED ALWAYS AS (%s) STORED', pg_get_expr(d.adbin, d.adrelid))
             WHEN d.adbin IS NOT NULL THEN 'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid) END,
        CASE WHEN a.attnotnull THEN 'NOT NULL' END) AS definition
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = 'otc'::regnamespace AND c.relkind = 'r'
ORDER BY c.relname, a.attnum
