create table t (
  id int primary key, a int, b bigint, c smallint, price numeric(12,2), rate numeric(6,4), wide numeric,
  f float8, g float4, name text, code char(6), tag varchar(20), d date, ts timestamp, ok boolean, step interval, u uuid, j jsonb, list int[]
);
insert into t select i,
  case when i % 11 = 0 then null else (i * 7919) % 1000 end,
  (i::bigint * 1000003) % 5000000000,
  (i % 300)::smallint,
  case when i % 13 = 0 then null else ((i * 31) % 100000)::numeric / 100 end,
  ((i * 17) % 9999)::numeric / 10000,
  case when i % 7 = 0 then (i % 50)::numeric else (i % 50)::numeric + 0.50 end,
  case when i % 17 = 0 then null else (i % 1000)::float8 / 8 end,
  (i % 100)::float4 / 4,
  'name ' || (i % 997)::text || case when i % 3 = 0 then ' special' else ' plain and rather long text' end,
  case i % 5 when 0 then 'A' when 1 then 'BB' when 2 then 'CCC' when 3 then null else 'DDDDDD' end,
  'tag' || (i % 25)::text,
  date '1995-01-01' + (i % 2500),
  timestamp '1996-01-01 00:00' + (i % 1000) * interval '1 hour',
  case when i % 4 = 0 then null else i % 2 = 0 end,
  (i % 40) * interval '1 day',
  null,
  case when i % 9 = 0 then null else ('{"k": ' || (i % 10)::text || '}')::jsonb end,
  array[i % 3, i % 5]
from generate_series(1, 10000) as s(i);
create table s (k int, t_id int, label text, amount numeric(10,3), code char(10), w numeric, f float8);
insert into s select i % 1500, case when i % 10 = 0 then null else (i * 13) % 12500 end, 'label ' || (i % 30)::text,
  ((i * 7) % 10000)::numeric / 1000, case i % 3 when 0 then 'A' when 1 then 'BB' else 'zz' end, (i % 60)::numeric, (i % 60)::float8
from generate_series(1, 4500) as s(i);
create table e (x int, y text);
create table n (x int, y int);
insert into n values (1, 1), (2, null), (null, 3), (3, 4);
create table big (v numeric(38,0), w numeric(38,10), i8 bigint);
insert into big values (99999999999999999999999999999999999999, 9999999999999999999999999999.0000000001, 9223372036854775807),
  (99999999999999999999999999999999999999, 1.5, 9223372036854775807), ('NaN', 2.5, -5);
create table big2 (v numeric(38,0), w numeric(38,10), i8 bigint);
insert into big2 values (99999999999999999999999999999999999999, 9999999999999999999999999999.0000000001, 9223372036854775807),
  (99999999999999999999999999999999999999, 1.5, 9223372036854775807);
