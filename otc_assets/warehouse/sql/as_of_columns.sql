-- One row per table: its name, its columns as a list to select from r, and its columns with their types.
SELECT c.relname AS name,
    string_agg('r.' || quote_ident(a.attname), ', ' ORDER BY a.attnum) AS columns,
    string_agg(quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum) AS types
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'otc'::regnamespace AND c.relname = ANY(:tables)
GROUP BY c.relname ORDER BY c.relname
