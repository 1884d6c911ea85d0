#!/bin/sh
# Creates the logins of the platform. The image of the database runs this once, when its volume is new.
#
# otc_writer and otc_reader are groups: 'otc-assets migrate' grants them what writers and readers need. The passwords are
# those in the URLs of the secrets; they pass through the environment, because arguments of processes are public.
set -eu

password() {
    url=$(cat "${OTC_SECRETS_DIR:-/run/secrets}/$1")
    url=${url#*://*:}
    printf %s "${url%%@*}"
}

OWNER_PASSWORD=$(password database-owner-url)
WRITER_PASSWORD=$(password database-writer-url)
READER_PASSWORD=$(password database-reader-url)
export OWNER_PASSWORD WRITER_PASSWORD READER_PASSWORD

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\getenv owner_password OWNER_PASSWORD
\getenv writer_password WRITER_PASSWORD
\getenv reader_password READER_PASSWORD
CREATE ROLE otc_writer NOLOGIN;
CREATE ROLE otc_reader NOLOGIN;
CREATE ROLE otc_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE otc_app LOGIN PASSWORD :'writer_password' IN ROLE otc_writer;
CREATE ROLE otc_metrics LOGIN PASSWORD :'reader_password' IN ROLE otc_reader;
ALTER DATABASE :"DBNAME" OWNER TO otc_owner;
REVOKE CONNECT ON DATABASE :"DBNAME" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"DBNAME" TO otc_app, otc_metrics;
SQL
