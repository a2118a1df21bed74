#!/bin/bash
# Does what the official image's script of this name does: creates the database, and runs the statements in a directory.
set -euo pipefail
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    chmod 700 "$PGDATA"
    initdb --username postgres --pwfile <(printf '%s\n' "${POSTGRES_PASSWORD:?}")
    printf '\nhost all all all scram-sha-256\n' >> "$PGDATA/pg_hba.conf"
    pg_ctl --wait --options "-c listen_addresses=''" start
    for file in /docker-entrypoint-initdb.d/*.sql; do
        psql --set ON_ERROR_STOP=1 --no-password --no-psqlrc --username postgres --dbname postgres --file "$file"
    done
    pg_ctl --wait --mode fast stop
fi
exec "$@"
