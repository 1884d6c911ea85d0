-- The statements that give the relations and functions :names of schema otc the grants that they have now.
SELECT statement FROM (
    SELECT relname AS name, 1 AS step, format(
        'GRANT %s ON otc.%I TO %s%s', privilege_type, relname,
        CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
        CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
    ) AS statement
    FROM pg_class, aclexplode(relacl)
    WHERE relnamespace = 'otc'::regnamespace AND relname = ANY(:names) AND grantee <> relowner
    UNION ALL
    -- PUBLIC may execute a new function: that right goes, unless it is among the grants.
    SELECT proname, 0, format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', oid::regprocedure)
    FROM pg_proc
    WHERE pronamespace = 'otc'::regnamespace AND proname = ANY(:names) AND proacl IS NOT NULL
    UNION ALL
    SELECT proname, 1, format(
        'GRANT EXECUTE ON FUNCTION %s TO %s%s', oid::regprocedure,
        CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
        CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
    )
    FROM pg_proc, aclexplode(proacl)
    WHERE pronamespace = 'otc'::regnamespace AND proname = ANY(:names) AND grantee <> proowner
) found
ORDER BY name, step, statement
