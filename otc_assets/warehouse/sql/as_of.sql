-- otc.<table>_as_of(moment): the rows of a table as they were known at a moment before otc.known_until().
-- Plain SQL of one statement, without settings of its own: only such a function is inlined, so that a caller's WHERE
-- reaches the tables.
CREATE OR REPLACE FUNCTION otc.{table}_as_of(moment timestamptz) RETURNS TABLE ({types})
LANGUAGE sql STABLE
AS $$
    -- A part of its own, and not a condition: conditions are not evaluated if a table has no rows.
    SELECT {columns} FROM otc.require_final(NULL::otc.{table}, moment, pg_current_snapshot()) r
    UNION ALL
    SELECT {columns} FROM otc.{table} r WHERE r.known_from <= moment
    UNION ALL
    SELECT {columns} FROM otc.{table}_revision r WHERE r.known_from <= moment AND r.known_to > moment
$$;
COMMENT ON FUNCTION otc.{table}_as_of IS
    '{table} as it was known at a moment before otc.known_until(), without what retention has deleted.';
