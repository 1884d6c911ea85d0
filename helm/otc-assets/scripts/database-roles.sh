# The image of the database runs this once, when its volume is new: it creates the roles, the logins of three URLs, and
# their database. The chart passes the URLs as variables, and compose.yaml as files. A password in these URLs must not
# have percent-encoded characters. psql reads it from the environment: arguments of processes are visible to others.

secrets=${OTC_SECRETS_DIR:-/run/secrets}
: "${OWNER_URL:=$(cat "$secrets/database-owner-url")}"
: "${WRITER_URL:=$(cat "$secrets/database-writer-url")}"
: "${READER_URL:=$(cat "$secrets/database-reader-url")}"

run_sql() {
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username postgres --dbname postgres
}

create_login() {
    login=${1#*://}
    login=${login%%@*}
    LOGIN_NAME=${login%%:*} LOGIN_PASSWORD=${login#*:} run_sql <<SQL
\getenv name LOGIN_NAME
\getenv password LOGIN_PASSWORD
CREATE ROLE :"name" LOGIN PASSWORD :'password' $2;
SQL
}

echo 'CREATE ROLE otc_writer NOLOGIN; CREATE ROLE otc_reader NOLOGIN;' | run_sql
create_login "$OWNER_URL" ''
owner=${login%%:*}
create_login "$WRITER_URL" 'IN ROLE otc_writer'
writer=${login%%:*}
create_login "$READER_URL" 'IN ROLE otc_reader'
reader=${login%%:*}

# Sessions of the reader begin with these: an analyst's forgotten session must not hold back vacuum, and a slow query
# must end. What the reader may do is in the rights of otc_reader.
READER_NAME=$reader run_sql <<'SQL'
\getenv reader READER_NAME
ALTER ROLE :"reader" SET default_transaction_read_only = on;
ALTER ROLE :"reader" SET statement_timeout = '5min';
ALTER ROLE :"reader" SET idle_in_transaction_session_timeout = '10min';
SQL

DATABASE_NAME=${OWNER_URL##*/} OWNER_NAME=$owner WRITER_NAME=$writer READER_NAME=$reader run_sql <<SQL
\getenv database DATABASE_NAME
\getenv owner OWNER_NAME
\getenv writer WRITER_NAME
\getenv reader READER_NAME
CREATE DATABASE :"database" OWNER :"owner";
REVOKE CONNECT ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO :"writer", :"reader";
\connect :"database"
SELECT 'CREATE EXTENSION IF NOT EXISTS timescaledb' FROM pg_available_extensions WHERE name = 'timescaledb' \gexec
SQL
