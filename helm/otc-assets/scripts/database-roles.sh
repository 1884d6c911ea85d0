# The image runs this once, when it creates the database in the cluster: roles, the logins of the URLs in
# secrets.database, and their database. A password in these URLs must not have percent-encoded characters.
# It is read from the environment: arguments of processes are visible to others.

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
create_login "$READER_URL" 'IN ROLE otc_reader'

DATABASE_NAME=${OWNER_URL##*/} OWNER_NAME=$owner run_sql <<SQL
\getenv database DATABASE_NAME
\getenv owner OWNER_NAME
CREATE DATABASE :"database" OWNER :"owner";
\connect :"database"
SELECT 'CREATE EXTENSION IF NOT EXISTS timescaledb' FROM pg_available_extensions WHERE name = 'timescaledb' \gexec
SQL
