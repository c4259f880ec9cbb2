#!/bin/sh
# The role that Grafana reads with: it may look, not touch. Runs once, on the first start.
set -eu
: "${GRAFANA_DB_PASSWORD:?set it in .env; deploy/make-env writes that file}"
client="startdb sql"
if command -v psql >/dev/null; then client="psql --quiet --set ON_ERROR_STOP=1"; fi
$client <<SQL
CREATE ROLE grafana LOGIN PASSWORD '$GRAFANA_DB_PASSWORD';
ALTER ROLE grafana SET default_transaction_read_only = on;
ALTER ROLE grafana SET statement_timeout = '30s';
GRANT USAGE ON SCHEMA public TO grafana;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO grafana;
GRANT pg_monitor TO grafana;
SQL
