SELECT * FROM missing
SELECT missing FROM client_errors
SELECT missing_function(1)
SELEC 1
SELECT 1/0
SELECT 'x'::int
SELECT '2024-13-01'::date
SELECT 99999999999::int
SELECT 1 + true
SELECT 'a'::nothing
SELECT (SELECT id FROM client_errors)
SELECT id, count(*) FROM client_errors
SELECT ARRAY[1] || 'x'
SELECT '{"a"'::jsonb
SELECT 'zz'::uuid
SELECT '\xz'::bytea
SELECT sqrt(-1)
SELECT ln(0)
SELECT '1'::numeric(3,2) * 1000::numeric(2,0)
SELECT substring('a' from 1 for -1)
SELECT 1 FROM client_errors UNION SELECT 'x'::text FROM client_errors
SELECT 1 LIMIT -1
SELECT 'a' ~ '('
INSERT INTO client_errors VALUES (1, 'again', 1)
INSERT INTO client_errors VALUES (3, NULL, 1)
INSERT INTO client_errors VALUES (3, 'too long a text', 1)
INSERT INTO client_errors VALUES (3, 'x', -1)
INSERT INTO client_errors VALUES (3, 'x', 1, 1)
INSERT INTO client_errors (nothing) VALUES (1)
INSERT INTO client_child VALUES (99)
DELETE FROM client_errors WHERE id = 1
UPDATE client_errors SET id = 2 WHERE id = 1
CREATE TABLE client_errors (a int)
DROP TABLE missing
DROP TABLE client_errors
ALTER TABLE client_errors DROP COLUMN nothing
CREATE INDEX ON client_errors (nothing)
GRANT SELECT ON client_errors TO nobody_of_this_name
SET nothing_of_this_name = 1
EXECUTE nothing_prepared
ROLLBACK TO SAVEPOINT nothing
SELECT nextval('missing_sequence')
CREATE SCHEMA pg_mine
