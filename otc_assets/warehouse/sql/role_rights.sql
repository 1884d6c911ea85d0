-- The schema :schema and everything in it that can be granted, with the rights that the roles :roles have by name. With
-- :tables, only these tables, and the sequences of their columns. "ours": the session's role may grant them.
SELECT kind, object, name, detail, ours, ARRAY(
    SELECT ARRAY[rolname::text, privilege_type, ''] FROM aclexplode(objects.acl) JOIN pg_roles r ON r.oid = grantee
    WHERE rolname = ANY(:roles)
    UNION ALL
    SELECT ARRAY[rolname::text, privilege_type, attname::text]
    FROM pg_attribute, aclexplode(attacl) JOIN pg_roles r ON r.oid = grantee
    WHERE objects.kind = 'TABLE' AND attrelid = objects.oid AND rolname = ANY(:roles)
) AS rights
FROM (
    SELECT 'SCHEMA' AS kind, quote_ident(nspname) AS object, nspname::text AS name, '' AS detail,
        pg_has_role(nspowner, 'USAGE') AS ours, nspacl AS acl, oid
    FROM pg_namespace WHERE nspname = :schema
    UNION ALL
    SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, format('%I.%I', :schema, relname), table_name,
        relkind::text, pg_has_role(relowner, 'USAGE'), relacl, oid
    FROM (
        SELECT c.*, coalesce(refobjid::regclass::oid, c.oid) AS table_oid FROM pg_class c
        LEFT JOIN pg_depend ON relkind = 'S' AND classid = 'pg_class'::regclass AND objid = c.oid
            AND deptype IN ('a', 'i') AND refclassid = 'pg_class'::regclass
        WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = :schema) AND relkind IN ('r', 'p', 'v', 'm', 'S')
    ) relations,
    LATERAL (SELECT relname::text AS table_name FROM pg_class WHERE oid = table_oid) named
    WHERE CAST(:tables AS text[]) IS NULL OR table_name = ANY(:tables)
    UNION ALL
    SELECT 'FUNCTION', oid::regprocedure::text, proname::text,
        CASE WHEN prorettype = 'trigger'::regtype THEN 'trigger' WHEN prosecdef THEN 'definer' ELSE 'invoker' END,
        pg_has_role(proowner, 'USAGE'), proacl, oid
    FROM pg_proc
    WHERE pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = :schema) AND prokind = 'f'
      AND CAST(:tables AS text[]) IS NULL
) objects
ORDER BY kind, object
