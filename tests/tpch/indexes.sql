CREATE INDEX ON lineitem (l_partkey, l_suppkey);
