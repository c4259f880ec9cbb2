#!/bin/sh
# Runs load.sql until it is stopped, with some statements that fail. Where to connect is in PGHOST, PGUSER and so on.
set -u
folder="$(dirname "$0")"
client="startdb sql"
if command -v psql >/dev/null; then client="psql --quiet --no-psqlrc"; fi
while :; do
    $client -f "$folder/load.sql" >/dev/null || sleep 2
    for wrong in "SELECT 1/0" "SELECT * FROM no_such_table" \
        "INSERT INTO demo_orders (id, customer, amount) OVERRIDING SYSTEM VALUE SELECT id, 1, 1 FROM demo_orders LIMIT 1"; do
        $client -c "$wrong" >/dev/null 2>&1
    done
    sleep "${PAUSE:-1}"
done
