#!/bin/sh
# Starts PostgreSQL in a container; the first time it makes the database, whose owner is tinytags.
set -eu
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
if [ ! -d /data/main ]; then
    rm -rf /data/new
    printf '%s' "$DATABASE_PASSWORD" > /tmp/password
    initdb -D /data/new -U tinytags -A scram-sha-256 --pwfile=/tmp/password -E UTF8 --no-locale
    rm /tmp/password
    echo 'host all all all scram-sha-256' >> /data/new/pg_hba.conf
    sync
    mv /data/new /data/main
fi
# SIGTERM waits until all clients have left; compose sends SIGINT.
exec postgres -D /data/main -c listen_addresses='*' -c unix_socket_directories=/tmp
