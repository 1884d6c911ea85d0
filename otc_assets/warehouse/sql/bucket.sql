-- otc.bucket: time_bucket for servers without it. Days and months are all that the aggregates need.
CREATE OR REPLACE FUNCTION otc.bucket(width text, day date) RETURNS date
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT CASE width WHEN '1 month' THEN date_trunc('month', day)::date ELSE day END $$
