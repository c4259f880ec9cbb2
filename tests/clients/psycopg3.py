"""psycopg 3: parameters of every type there and back, as text and as binary; what failing statements are refused with.

Connects as the PG* variables say; prints one line per fact, which must be the same for StartDB and PostgreSQL."""

import datetime as dt
import decimal
import sys
import uuid

import psycopg
from psycopg.types.json import Json, Jsonb

UTC = dt.timezone.utc
# column type, value to send, value to get (None: the same)
VALUES = [
    ("bool", True, None),
    ("bool", False, None),
    ("int2", -32768, None),
    ("int4", 2147483647, None),
    ("int8", -9223372036854775808, None),
    ("float4", 1.5, None),
    ("float8", 0.1, None),
    ("float8", float("inf"), None),
    ("numeric", decimal.Decimal("12345678901234567890.12345678901234567890"), None),
    ("numeric", decimal.Decimal("-0.00000000001"), None),
    ("numeric(10,3)", decimal.Decimal("1234567.891"), None),
    ("text", "héllo \U0001F600 'quoted' \\ back", None),
    ("text", "", None),
    ("varchar(10)", "ten chars!", None),
    ("char(5)", "abc", "abc  "),
    ("name", "a_name", None),
    ("bytea", b"\x00\x01\xff\\'", None),
    ("date", dt.date(2024, 2, 29), None),
    ("date", dt.date(1, 1, 1), None),
    ("time", dt.time(23, 59, 59, 999999), None),
    ("timestamp", dt.datetime(2024, 2, 29, 12, 34, 56, 789012), None),
    ("timestamptz", dt.datetime(2024, 2, 29, 12, 34, 56, 789012, tzinfo=UTC), None),
    ("interval", dt.timedelta(days=5, seconds=3661, microseconds=5), None),
    ("interval", dt.timedelta(days=-5), None),
    ("uuid", uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), None),
    ("json", Json({"a": [1, 2.5, None, "x"]}), {"a": [1, 2.5, None, "x"]}),
    ("jsonb", Jsonb({"b": {"c": True}}), {"b": {"c": True}}),
    ("oid", 4294967295, None),
    ("int4[]", [1, None, 3], None),
    ("text[]", ["a", "b c", 'q"\\', None, ""], None),
    ("numeric[]", [decimal.Decimal("1.5"), decimal.Decimal("2.25")], None),
    ("bool[]", [True, False], None),
    ("date[]", [dt.date(2024, 1, 1)], None),
    ("uuid[]", [uuid.UUID(int=5)], None),
    ("timestamptz[]", [dt.datetime(2024, 1, 1, tzinfo=UTC)], None),
    ("float8[]", [0.5, -1.25], None),
    ("bytea[]", [b"\x00", b"ab"], None),
    ("int4[]", [[1, 2], [3, 4]], None),
    ("int8", None, None),
]

with psycopg.connect(autocommit=True) as connection:
    connection.execute("SET TIME ZONE 'UTC'")
    connection.execute("DROP TABLE IF EXISTS client_types")
    columns = ", ".join(f"c{i} {kind}" for i, (kind, _, _) in enumerate(VALUES))
    connection.execute(f"CREATE TABLE client_types (id int PRIMARY KEY, {columns})")
    sent = [value for _, value, _ in VALUES]
    expected = [value if back is None else back for _, value, back in VALUES]
    for number, (mark, binary) in enumerate([("%s", False), ("%b", True), ("%t", False)]):
        marks = ", ".join(
            mark if mark != "%b" or not isinstance(v, (Json, Jsonb)) else "%s" for v in sent
        )
        connection.execute(f"INSERT INTO client_types VALUES ({number}, {marks})", sent)
        for as_binary in (False, True):
            cursor = connection.cursor(binary=as_binary)
            row = cursor.execute("SELECT * FROM client_types WHERE id = %s", [number]).fetchone()
            for (kind, _, _), want, got in zip(VALUES, expected, row[1:]):
                assert want == got and type(want) is type(got), f"{mark} {as_binary} {kind}: {want!r} != {got!r}"
        print("types", mark, len(row) - 1)

    # Each value finds itself again by comparison in the server.
    for i, (kind, value, _) in enumerate(VALUES):
        if value is not None and kind != "json":
            count = connection.execute(f"SELECT count(*) FROM client_types WHERE c{i} = %s::{kind}", [value]).fetchone()[0]
            print("equal", i, kind, count)

    # A statement prepared on the server, many rows at once, COPY both ways, a pipeline, a server-side cursor.
    connection.execute("DROP TABLE IF EXISTS client_rows")
    connection.execute("CREATE TABLE client_rows (id int PRIMARY KEY, name text, amount numeric(12,2))")
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO client_rows VALUES (%s, %s, %s)",
            [(i, f"name {i}", decimal.Decimal(i) / 4) for i in range(200)],
        )
        print("rows", cursor.rowcount)
        with cursor.copy("COPY client_rows FROM STDIN") as copy:
            for i in range(200, 1000):
                copy.write_row((i, None if i % 7 == 0 else f"tab\t{i}", decimal.Decimal(i)))
        print("copied", cursor.rowcount)
        with cursor.copy("COPY (SELECT * FROM client_rows WHERE id < 3 OR id > 997 ORDER BY id) TO STDOUT") as copy:
            for row in copy.rows():
                print("copy", row)
        with cursor.copy("COPY client_rows (id, amount) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "numeric"])
            copy.write_row((5000, decimal.Decimal("1.25")))
    for i in range(12):
        print("prepared", connection.execute("SELECT name FROM client_rows WHERE id = %s", [i], prepare=True).fetchone())
    with connection.pipeline():
        results = [connection.execute("SELECT %s::int + 1", [i]) for i in range(5)]
    print("pipeline", [result.fetchone()[0] for result in results])
    with connection.transaction():
        with connection.cursor(name="server_side") as cursor:
            cursor.execute("SELECT id FROM client_rows ORDER BY id")
            print("cursor", cursor.fetchmany(3), len(cursor.fetchall()))
    try:
        with connection.transaction():
            connection.execute("DELETE FROM client_rows")
            with connection.transaction():
                connection.execute("INSERT INTO client_rows VALUES (1)")
            raise RuntimeError("taken back")
    except RuntimeError:
        pass
    print("kept", connection.execute("SELECT count(*), sum(amount) FROM client_rows").fetchone())
    described = connection.execute("SELECT id, name, amount, now() FROM client_rows LIMIT 0").description
    print("described", [(c.name, c.type_code, c.precision, c.scale, c.display_size) for c in described])

    connection.execute("DROP TABLE IF EXISTS client_child, client_errors")
    connection.execute(
        "CREATE TABLE client_errors (id int PRIMARY KEY, name varchar(9) NOT NULL, age int CHECK (age > 0))"
    )
    connection.execute("INSERT INTO client_errors VALUES (1, 'one', 1), (2, 'two', 2)")
    connection.execute("CREATE TABLE client_child (parent int REFERENCES client_errors)")
    connection.execute("INSERT INTO client_child VALUES (1)")
    for line in open(sys.argv[1]):
        try:
            connection.execute(line)
            print("accepted", line.strip())
        except psycopg.Error as error:
            print(error.sqlstate, error.diag.constraint_name, line.strip())
