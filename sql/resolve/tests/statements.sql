SELECT 1
SELECT 1, 'x', NULL, true, 1.5, 12345678901, 123456789012345678901234567890
SELECT -2147483648, -9223372036854775808, 2147483648
SELECT a, b FROM t
SELECT * FROM t
SELECT t.*, u.x FROM t, u
SELECT public.t.a FROM public.t
SELECT t.a FROM t AS z
SELECT a FROM t, u
SELECT zz FROM t
SELECT t.zz FROM t
SELECT lable FROM w
SELECT q.a FROM t
SELECT a FROM nosuch
SELECT a FROM public.nosuch
SELECT a FROM nosuch.t
SELECT * 
SELECT * FROM "Odd"
SELECT Col FROM "Odd"
SELECT "Col" AS "Mixed", plain PLAIN FROM "Odd"
SELECT a + 1, b || 'x', a || b, -a, a::text, a::numeric(5,1), c * 2, d + interval '1 day', e[1], e[1:2], j->'k', j->>'k' FROM t
SELECT a + 'x' FROM t
SELECT a + b FROM t
SELECT a = b FROM t
SELECT a = '1' FROM t
SELECT a = 'x' FROM t
SELECT NOT a FROM t
SELECT a AND f FROM t
SELECT * FROM t WHERE a
SELECT * FROM t WHERE b
SELECT lower(b), upper(a) FROM t
SELECT lower(b), length(b), nosuch(b) FROM t
SELECT nosuch(a, 'x', 1.5) FROM t
SELECT count(*), count(a), sum(a), sum(x), avg(t.a), min(t.b), max(d) FROM t, u WHERE t.a = u.a
SELECT count(*) FROM t WHERE count(*) > 1
SELECT a, count(*) FROM t
SELECT b, count(*) FROM t GROUP BY b
SELECT b, count(*) FROM t GROUP BY 1
SELECT b AS k, count(*) FROM t GROUP BY k
SELECT a, b, c FROM t GROUP BY a
SELECT a, b, c FROM t GROUP BY b
SELECT customer, sum(total) FROM o GROUP BY customer HAVING sum(total) > 10 ORDER BY 2 DESC
SELECT customer, sum(total) FROM o GROUP BY 3
SELECT customer FROM o GROUP BY customer HAVING total > 1
SELECT sum(count(*)) FROM t GROUP BY a
SELECT (SELECT sum(t.a) FROM u) FROM t
SELECT (SELECT u.x FROM u WHERE u.a = t.a) FROM t
SELECT (SELECT t.b FROM u LIMIT 1) FROM t GROUP BY a
SELECT (SELECT t.b FROM u LIMIT 1) FROM t GROUP BY c
SELECT a FROM t ORDER BY b, 1 DESC NULLS LAST
SELECT a FROM t ORDER BY 2
SELECT a AS b FROM t ORDER BY b
SELECT a AS z FROM t ORDER BY z + 1
SELECT a, b AS a FROM t ORDER BY a
SELECT DISTINCT b FROM t ORDER BY a
SELECT DISTINCT ON (b) a, b FROM t ORDER BY b, a
SELECT DISTINCT ON (b) a, b FROM t ORDER BY a
SELECT CASE WHEN f THEN 1 ELSE 2.5 END, CASE a WHEN 1 THEN 'x' END, CASE WHEN f THEN 1 ELSE b END FROM t
SELECT CASE WHEN f THEN 1 ELSE 'x' END FROM t
SELECT coalesce(a, 0), coalesce(b, 'x') AS q, nullif(a, 1), greatest(a, 2.5), least(b, 'x') FROM t
SELECT coalesce(a, b) FROM t
SELECT 1 IN (1, 2), a IN (1, 2.5), b IN ('x', 'y'), a IN ('1', '2') FROM t
SELECT a IN ('1', b) FROM t
SELECT a IN (SELECT x FROM u), a = ANY (e), a = ANY ('{1,2}'), a <> ALL (ARRAY[1,2]) FROM t
SELECT a = ANY (b) FROM t
SELECT a IN (SELECT x, y FROM u) FROM t
SELECT (a, b) IN (SELECT a, b FROM u), (a, b) = (1, 'x'), (a, b) < (1, 'x') FROM t
SELECT (a, b) = (1, 'x', 2) FROM t
SELECT (SELECT a, b FROM t)
SELECT EXISTS (SELECT 1 FROM u WHERE u.a = t.a), NOT EXISTS (SELECT FROM u), ARRAY(SELECT x FROM u) FROM t
SELECT a BETWEEN 1 AND 2, a NOT BETWEEN 1 AND 2.5, b BETWEEN SYMMETRIC 'x' AND 'a' FROM t
SELECT b LIKE 'x%', b NOT LIKE 'x', b ILIKE 'x', b LIKE 'x' ESCAPE '!', b SIMILAR TO 'x', b ~ 'x', b !~* 'x' FROM t
SELECT a LIKE 'x' FROM t
SELECT a IS NULL, a IS NOT NULL, f IS TRUE, f IS NOT FALSE, f IS UNKNOWN, a IS DISTINCT FROM 1, b IS NOT DISTINCT FROM 'x' FROM t
SELECT a IS TRUE FROM t
SELECT '1'::int, CAST('2' AS bigint), '2020-01-01'::date, date '2020-01-01', timestamp '2020-01-01 10:00', interval '1 day', interval '1' day, '{1,2}'::int[], 'x'::varchar(3), 'x'::char(3), numeric '1.5'
SELECT 'x'::int
SELECT 'abc'::date
SELECT a::date FROM t
SELECT true::int, 1::bool, 'x'::nosuchtype
SELECT 1::nosuchtype
SELECT '{1,2'::int[]
SELECT ARRAY[1,2], ARRAY[1,2.5], ARRAY['x','y'], ARRAY[[1,2],[3,4]], ARRAY[]::int[]
SELECT ARRAY[]
SELECT ARRAY[1,'x']
SELECT ROW(1,'x',a) FROM t
SELECT current_date, current_timestamp, current_user, session_user, now(), localtimestamp, current_schema, current_catalog
SELECT extract(year FROM d), date_part('year', d), date_trunc('day', d), position('a' in b), substring(b from 1 for 2), trim(b), overlay(b placing 'x' from 1), d AT TIME ZONE 'UTC', ceil(c), floor(1.5) FROM t
SELECT b COLLATE "C" FROM t
SELECT b COLLATE "nosuch" FROM t
SELECT a COLLATE "C" FROM t
SELECT t.a, u.a FROM t JOIN u ON t.a = u.a
SELECT * FROM t JOIN u USING (a)
SELECT a, t.a, u.a FROM t JOIN u USING (a)
SELECT b FROM t JOIN u USING (a)
SELECT * FROM t NATURAL JOIN u
SELECT * FROM t FULL JOIN u USING (a, b)
SELECT * FROM t JOIN u USING (zz)
SELECT * FROM t JOIN u ON t.a
SELECT * FROM t JOIN u ON t.a = v.a
SELECT * FROM t, t
SELECT * FROM t, u AS t
SELECT * FROM (SELECT a FROM t)
SELECT * FROM (VALUES (1))
SELECT * FROM (SELECT a, b FROM t) s
SELECT s.k FROM (SELECT a, b FROM t) s(k)
SELECT * FROM (SELECT a FROM t) s(k, l)
SELECT * FROM t, (SELECT t.a) s
SELECT * FROM t, LATERAL (SELECT t.a AS q) s
SELECT * FROM t, LATERAL (SELECT zz.a) s
SELECT * FROM t RIGHT JOIN LATERAL (SELECT t.a) s ON true
SELECT * FROM generate_series(1, 3)
SELECT * FROM generate_series(1, 3) g
SELECT g, n FROM generate_series(1, 3) WITH ORDINALITY x(g, n)
SELECT * FROM t, generate_series(1, t.a) g
SELECT * FROM unnest(ARRAY[1,2], ARRAY['x','y']) q(a, b)
SELECT generate_series(1, 3), unnest(e) FROM t
SELECT a FROM t WHERE generate_series(1, 2) = 1
SELECT * FROM t WHERE a IN (SELECT generate_series(1, 3))
SELECT 1 UNION SELECT 2
SELECT 1 AS n UNION ALL SELECT 2.5
SELECT 1 UNION SELECT 'x'
SELECT 'x' UNION SELECT 'y'
SELECT '1' UNION SELECT 2
SELECT a FROM t UNION SELECT b FROM t
SELECT a, b FROM t UNION SELECT a FROM t
SELECT a FROM t UNION SELECT x FROM u ORDER BY a
SELECT a FROM t UNION SELECT x FROM u ORDER BY a + 1
SELECT a FROM t UNION SELECT x FROM u ORDER BY zz
SELECT a FROM t INTERSECT SELECT a FROM u EXCEPT SELECT 1
(SELECT a FROM t ORDER BY a LIMIT 1) UNION ALL (SELECT x FROM u)
VALUES (1, 'x'), (2, 'y')
VALUES (1, 'x'), (2.5, NULL)
VALUES (1, 'x'), (2)
WITH q AS (SELECT a FROM t) SELECT * FROM q
WITH q(z) AS (SELECT a FROM t) SELECT z FROM q, q AS r
WITH q(z, y) AS (SELECT a FROM t) SELECT z FROM q
WITH q AS (SELECT 1), q AS (SELECT 2) SELECT 1
WITH RECURSIVE q(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM q WHERE n < 5) SELECT n FROM q
WITH RECURSIVE q(n) AS (SELECT 1 UNION ALL SELECT n + 1.5 FROM q) SELECT n FROM q
WITH RECURSIVE q AS (SELECT n FROM q) SELECT * FROM q
WITH q AS (INSERT INTO u VALUES (1, 2) RETURNING x) SELECT * FROM q
WITH q AS (INSERT INTO u VALUES (1, 2)) SELECT * FROM q
SELECT row_number() OVER (ORDER BY a), rank() OVER w, sum(a) OVER (PARTITION BY b ORDER BY a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW), lag(a, 1, 0) OVER w FROM t WINDOW w AS (PARTITION BY b ORDER BY a)
SELECT row_number() FROM t
SELECT sum(a) OVER nosuch FROM t
SELECT lower(b) OVER () FROM t
SELECT a FROM t WHERE row_number() OVER () = 1
SELECT sum(row_number() OVER ()) FROM t
SELECT rank() OVER (w ORDER BY a) FROM t WINDOW w AS (ORDER BY b)
SELECT sum(a) OVER (ORDER BY a RANGE 1 PRECEDING) FROM t
SELECT sum(a) OVER (ORDER BY a RANGE BETWEEN UNBOUNDED FOLLOWING AND CURRENT ROW) FROM t
SELECT sum(a) FILTER (WHERE f), string_agg(b, ',' ORDER BY a DESC), count(DISTINCT b), percentile_cont(0.5) WITHIN GROUP (ORDER BY c) FROM t
SELECT string_agg(DISTINCT b, ',' ORDER BY a) FROM t
SELECT lower(DISTINCT b) FROM t
SELECT lower(b ORDER BY a) FROM t
SELECT lower(b) FILTER (WHERE f) FROM t
SELECT percentile_cont(0.5) FROM t
SELECT b, c, count(*), grouping(b, c) FROM t GROUP BY ROLLUP (b, c)
SELECT b, count(*) FROM t GROUP BY GROUPING SETS ((b), (c), ())
SELECT grouping(a) FROM t GROUP BY b
SELECT a FROM t LIMIT 1 OFFSET 2
SELECT a FROM t LIMIT a
SELECT a FROM t LIMIT 'x'
SELECT a FROM t LIMIT true
SELECT a FROM t FETCH FIRST 2 ROWS WITH TIES
SELECT a FROM t ORDER BY a FETCH FIRST ROW ONLY
SELECT a FROM t FOR UPDATE
SELECT a FROM t FOR NO KEY UPDATE OF t SKIP LOCKED
SELECT a FROM t FOR UPDATE OF u
SELECT count(*) FROM t FOR UPDATE
SELECT DISTINCT a FROM t FOR SHARE
SELECT a FROM t UNION SELECT 1 FOR UPDATE
SELECT $1
SELECT $1::int, $2 + 1, a = $3, b = $4 FROM t
SELECT $1 + $2
SELECT $1 || 'x', lower($2), coalesce($3, 1)
SELECT $1 IS NULL
SELECT a FROM t WHERE a = $1 AND b = $1
SELECT a FROM t WHERE a IN ($1, $2) LIMIT $3
SELECT a FROM t WHERE a = ANY($1)
SELECT count(t.*), count(t) FROM t
SELECT tableoid, a FROM t
SELECT w.*, label FROM w
INSERT INTO u VALUES (1, 2, 3, 'x')
INSERT INTO u (a, x) VALUES (1, 2), (3, DEFAULT)
INSERT INTO u (a, x) VALUES ($1, $2) RETURNING *
INSERT INTO u (a, a) VALUES (1, 2)
INSERT INTO u (a, zz) VALUES (1, 2)
INSERT INTO u (a, x) VALUES (1)
INSERT INTO u (a, x) VALUES (1, 2, 3)
INSERT INTO u (a) VALUES ('x')
INSERT INTO u (a) VALUES (true)
INSERT INTO u (a) VALUES (b)
INSERT INTO u (a, x) SELECT a, a FROM t
INSERT INTO u (a, x) SELECT 'x', 1
INSERT INTO u (a, x) SELECT '1', '2'
INSERT INTO u (a, x) SELECT d, a FROM t
INSERT INTO nosuch VALUES (1)
INSERT INTO u DEFAULT VALUES
INSERT INTO i (id, n) VALUES (1, 2)
INSERT INTO i (id, n) OVERRIDING SYSTEM VALUE VALUES (1, 2)
INSERT INTO i (id, n) VALUES (DEFAULT, 2) RETURNING id, g
INSERT INTO i (g) VALUES (1)
INSERT INTO t (a, b) VALUES (1, 'x') ON CONFLICT DO NOTHING
INSERT INTO t (a, b) VALUES (1, 'x') ON CONFLICT (a) DO UPDATE SET b = excluded.b WHERE t.b <> excluded.b RETURNING t.a
INSERT INTO t (a, b) VALUES (1, 'x') ON CONFLICT (b) DO NOTHING
INSERT INTO t (a, b) VALUES (1, 'x') ON CONFLICT ON CONSTRAINT t_pkey DO UPDATE SET b = 'y'
INSERT INTO t (a, b) VALUES (1, 'x') ON CONFLICT ON CONSTRAINT nosuch DO NOTHING
INSERT INTO t (a, b) VALUES (1, 'x') ON CONFLICT DO UPDATE SET b = 'y'
INSERT INTO t (a, b) VALUES (1, 'x') ON CONFLICT (a) DO UPDATE SET b = a
INSERT INTO i (email) VALUES ('x') ON CONFLICT (lower(email)) DO NOTHING
INSERT INTO i (email) VALUES ('x') ON CONFLICT (email) WHERE NOT deleted DO NOTHING
INSERT INTO i (email) VALUES ('x') ON CONFLICT (email) DO NOTHING
UPDATE t SET b = 'x', c = c + 1 WHERE a = 1
UPDATE t SET zz = 1
UPDATE t SET a = 'x'
UPDATE t SET a = b
UPDATE t SET a = 1, a = 2
UPDATE t SET (b, c) = ('x', 1)
UPDATE t SET (b, c) = (SELECT b, y FROM u LIMIT 1)
UPDATE t SET (b, c) = (SELECT b FROM u)
UPDATE t SET b = u.b FROM u WHERE t.a = u.a RETURNING t.*, u.x
UPDATE t SET b = DEFAULT
UPDATE t AS z SET b = 'x' WHERE t.a = 1
UPDATE i SET g = 1
UPDATE i SET id = 1
UPDATE i SET g = DEFAULT, n = 3
UPDATE t SET a = count(*)
UPDATE w SET a = 1
DELETE FROM t
DELETE FROM t USING u WHERE t.a = u.a RETURNING u.x, t.b
DELETE FROM t z WHERE z.a = 1 RETURNING *
DELETE FROM t WHERE b
SELECT a FRM t
SELECT a FROM t WHERE
SELECT 'abc
SELECT (1
SELECT 1 + 
SELECT sum(a) AS total FROM t HAVING sum(a) > 1
SELECT sum(DISTINCT a), array_agg(a ORDER BY b), json_agg(t) FROM t
SELECT pg_catalog.lower('X'), nosuch.lower('X')
SELECT "lower"('X'), LOWER('x')
SELECT 1 OPERATOR(pg_catalog.+) 2
SELECT 'a' 'b'
SELECT '\x41'::bytea, E'a\nb', $$x$$, U&'\0041'
SELECT make_interval(days => 3), make_interval(hours => 1, mins => 2)
SELECT (t).a, (t.j) FROM t
SELECT (a).b FROM t
SELECT a[1] FROM t
SELECT e['x'] FROM t
SELECT round(1.5), round(1.5::float8), round(c, 1), abs(-1), mod(5, 2), 5 / 2, 5 % 2, 2 ^ 3, 5 / 2.0 FROM t
SELECT sum(x), sum(y), avg(x), avg(y), max(a) FROM u
SELECT d - d, d - interval '1 day', placed - placed, placed + 1, d > '2020-01-01', now() - d FROM t, o
SELECT 'x' < 'y', 'x' || 'y', 'x' = NULL, NULL IS NULL
SELECT to_char(d, 'YYYY'), to_date('2020', 'YYYY'), age(d) FROM t
SELECT jsonb_build_object('a', a), j @> '{"a":1}', j ? 'x', j #>> '{a,b}', j - 'x' FROM t
SELECT string_to_array('a,b', ','), array_length(e, 1), e || 3, 3 || e, e || e, a = ANY (e) FROM t
SELECT 'a' 'b', 'c'
SELECT E'a' 'b'
SELECT U&'d!0061t' UESCAPE '!', U&'d\0061t'
SELECT U&'\zzzz'
SELECT U&'x' UESCAPE 'a'
SELECT E'\xff'
SELECT 0x1F
SELECT 1_000
SELECT 12abc FROM t
SELECT
SELECT FROM t
SELECT WHERE false
SELECT EXISTS (SELECT), NOT EXISTS (SELECT WHERE false), EXISTS (SELECT 1/0)
TABLE t
TABLE u ORDER BY x LIMIT 1
SELECT a FROM t UNION ALL TABLE "Odd"
SELECT * FROM (TABLE "Odd") s
WITH q AS (TABLE u) TABLE q
SELECT trim(leading from ' a'), trim(from 'a'), trim(trailing 'a' from 'baa'), trim(both 'x'), trim('x', 'y')
SELECT substring('abcdefg' similar 'a#"(b_d)#"%' escape '#'), substring('a' from 1 for 2), substring('a', 2)
SELECT substring(5 from 1)
SELECT extract(day FROM 5)
SELECT a FROM t GROUP BY DISTINCT ROLLUP (a, a)
SELECT a FROM t GROUP BY ALL a
SELECT concat(VARIADIC ARRAY['a','b']), concat(VARIADIC '{a,b}'::text[]), concat_ws(',', VARIADIC ARRAY['a', b]), concat(VARIADIC e) FROM t
SELECT upper(VARIADIC ARRAY['a','b'])
SELECT concat(VARIADIC 5)
SELECT "char" 'gh', bpchar 'x', name 'y'
UPDATE t SET e[2] = 99
UPDATE t SET e[1] = 1, e[2] = a, b = 'x' WHERE a = 1 RETURNING e
UPDATE t SET e[1:2] = '{3,4}', e[5][6] = 7
UPDATE t SET e[1] = 'x'
UPDATE t SET e[1] = b
UPDATE t SET e = '{}', e[1] = 1
UPDATE t SET a[1] = 1
UPDATE t SET zz[1] = 1
UPDATE t SET e[1] = DEFAULT
UPDATE t SET e['x'] = 1
INSERT INTO t (a, e) VALUES (1, '{}') ON CONFLICT (a) DO UPDATE SET e[1] = excluded.a
SELECT SELECT
SELECT a FROM WHERE
SELECT select FROM t
SELECT 1 FROM t ORDER BY where
SELECT a FROM table
INSERT t VALUES (1)
SELECT 1 < 2 = true
SELECT (1 < 2) = true, 1 + 2 < 4, 1 < 2 AND 2 < 3, a = 1 IS NULL FROM t
SELECT a <> 1 >= 2 FROM t
SELECT 5[1]
SELECT count() FROM t
SELECT 'a'::nothing
SELECT CAST(a AS nothing[]) FROM t
SELECT a FROM t UNION SELECT b FROM u
SELECT 1, a FROM t UNION ALL VALUES (2, now())
SELECT row_number() OVER (ORDER BY row_number() OVER ()) FROM t
SELECT (d, d) OVERLAPS (d, d) FROM t
SELECT pg_typeof('a'), pg_typeof(NULL)
SELECT interval '1 day'(3)
SELECT a IN (1) = true FROM t
SELECT a::int4(5) FROM t
SELECT sum((SELECT count(*) FROM u WHERE u.a = t.a)) FROM t
SELECT b, (SELECT max(x) FROM u WHERE u.a = min(t.a)) FROM t GROUP BY b
SELECT last_value, is_called, log_cnt FROM i_s_seq
INSERT INTO w (a, label) VALUES (1, 'x')
UPDATE w SET label = 'y' WHERE a = 1
DELETE FROM w WHERE label = 'y' RETURNING a, label
SELECT * FROM t t1 JOIN t t2
INSERT INTO w VALUES (1, 'x')
