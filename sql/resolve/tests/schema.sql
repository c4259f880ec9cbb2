-- The tables that the statements of these tests use; tests/resolve.rs builds the same catalog by hand.
CREATE TABLE t (a integer PRIMARY KEY, b text, c numeric(10,2), d timestamptz, e integer[], f boolean, v varchar(5), j jsonb);
CREATE TABLE u (a integer, x bigint NOT NULL, y double precision, b text);
CREATE TABLE o (id integer PRIMARY KEY, customer integer, total numeric, placed date);
CREATE TABLE i (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n integer DEFAULT 7, g integer GENERATED ALWAYS AS (n * 2) STORED, s serial, email text, deleted boolean, CHECK (n > 0));
CREATE UNIQUE INDEX i_email ON i (lower(email));
CREATE UNIQUE INDEX i_live ON i (email) WHERE NOT deleted;
CREATE TABLE "Odd" ("Col" integer, plain integer);
CREATE VIEW w AS SELECT t.a, t.b AS label FROM public.t WHERE t.f;
