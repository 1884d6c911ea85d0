-- One row per constraint of every table, as text: keys first.
SELECT conrelid::regclass::text AS name, format('CONSTRAINT %I %s', conname, pg_get_constraintdef(oid)) AS definition
FROM pg_constraint
WHERE connamespace = 'otc'::regnamespace AND contype IN ('p', 'u', 'f', 'c')
ORDER BY conrelid::regclass::text, position(contype::text IN 'pufc'), conname
