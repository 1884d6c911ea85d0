"""Session defaults that may change no result, and a database that has them."""

from __future__ import annotations

from otc_assets.local.embedded import EmbeddedServer

#: What a database's administrator may have chosen, for other users of it. DateStyle broke every asset that reads a
#: timestamp; a time zone whose abbreviation is another one's, too; what the path finds first has our names.
HOSTILE_DEFAULTS = {
    "DateStyle": "'SQL, DMY'",
    "IntervalStyle": "sql_standard",
    "TimeZone": "'Asia/Kolkata'",
    "extra_float_digits": "-10",
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "standard_conforming_strings": "off",
    "transform_null_equals": "on",
    "quote_all_identifiers": "on",
    "default_transaction_isolation": "serializable",
    "search_path": "shadow, pg_catalog",
}
SHADOW = """
    CREATE SCHEMA shadow;
    GRANT USAGE ON SCHEMA shadow TO PUBLIC;
    CREATE FUNCTION shadow.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT timestamptz '1999-01-01 00:00Z' $$;
    CREATE FUNCTION shadow.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT shadow.now() $$;
    CREATE AGGREGATE shadow.max(date) (SFUNC = date_larger, STYPE = date, INITCOND = '2999-01-01');
    CREATE AGGREGATE shadow.max(bigint) (SFUNC = int8larger, STYPE = bigint, INITCOND = '1000000000');
"""


def make_hostile(server: EmbeddedServer, name: str) -> None:
    """Sets unusual defaults on a database."""
    with server._connect(name) as admin:
        admin.execute(SHADOW)
        for parameter, value in HOSTILE_DEFAULTS.items():
            admin.execute(f"ALTER DATABASE {name} SET {parameter} = {value}")
