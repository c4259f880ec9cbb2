"""asyncpg: prepares everything, speaks binary only, reads the catalogs for types it does not know.

Connects as the PG* variables say; prints one line per fact, which must be the same for StartDB and PostgreSQL."""

import asyncio
import datetime as dt
import decimal
import sys
import uuid

import asyncpg

UTC = dt.timezone.utc
VALUES = [
    ("bool", True),
    ("int2", -32768),
    ("int4", 2147483647),
    ("int8", 9223372036854775807),
    ("float4", 1.5),
    ("float8", 0.1),
    ("numeric", decimal.Decimal("12345678901234567890.12345678901234567890")),
    ("numeric(10,3)", decimal.Decimal("1234567.891")),
    ("text", "héllo \U0001F600"),
    ("varchar(10)", "ten chars!"),
    ("char(5)", "abcde"),
    ("name", "a_name"),
    ("bytea", b"\x00\x01\xff"),
    ("date", dt.date(2024, 2, 29)),
    ("time", dt.time(23, 59, 59, 999999)),
    ("timestamp", dt.datetime(2024, 2, 29, 12, 34, 56, 789012)),
    ("timestamptz", dt.datetime(2024, 2, 29, 12, 34, 56, 789012, tzinfo=UTC)),
    ("interval", dt.timedelta(days=5, seconds=3661, microseconds=5)),
    ("uuid", uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
    ("json", '{"a": 1}'),
    ("jsonb", '{"a": 1}'),
    ("oid", 4294967295),
    ("int4[]", [1, None, 3]),
    ("text[]", ["a", "b c", None, ""]),
    ("numeric[]", [decimal.Decimal("1.5")]),
    ("timestamptz[]", [dt.datetime(2024, 1, 1, tzinfo=UTC)]),
    ("int8[]", [[1, 2], [3, 4]]),
    ("jsonb[]", ['{"a": 1}', "[]"]),
    ("int4", None),
]


async def main():
    connection = await asyncpg.connect()
    await connection.execute("DROP TABLE IF EXISTS client_types")
    columns = ", ".join(f"c{i} {kind}" for i, (kind, _) in enumerate(VALUES))
    await connection.execute(f"CREATE TABLE client_types (id int PRIMARY KEY, {columns})")
    marks = ", ".join(f"${i + 2}" for i in range(len(VALUES)))
    await connection.execute(f"INSERT INTO client_types VALUES ($1, {marks})", 1, *[v for _, v in VALUES])
    row = await connection.fetchrow("SELECT * FROM client_types WHERE id = $1", 1)
    for (kind, want), got in zip(VALUES, list(row)[1:]):
        assert want == got and isinstance(got, type(want)), f"{kind}: {want!r} != {got!r}"
    print("types", len(row))
    for i, (kind, value) in enumerate(VALUES):
        if value is not None and kind != "json":
            print("equal", kind, await connection.fetchval(f"SELECT count(*) FROM client_types WHERE c{i} = $1", value))

    await connection.execute("DROP TABLE IF EXISTS client_rows; CREATE TABLE client_rows (id int PRIMARY KEY, name text)")
    await connection.executemany("INSERT INTO client_rows VALUES ($1, $2)", [(i, f"n{i}") for i in range(300)])
    print("copied", await connection.copy_records_to_table("client_rows", records=[(i, None) for i in range(300, 900)]))
    async with connection.transaction():
        total = 0
        async for record in connection.cursor("SELECT id FROM client_rows ORDER BY id", prefetch=70):
            total += record["id"]
    print("cursor", total)
    statement = await connection.prepare("SELECT id, name, $2::text AS extra FROM client_rows WHERE id = $1")
    print("parameters", [(p.name, p.oid) for p in statement.get_parameters()])
    print("attributes", [(a.name, a.type.name) for a in statement.get_attributes()])
    print("fetched", dict(await statement.fetchrow(5, "x")))
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        print("isolation", await connection.fetchval("SHOW transaction_isolation"))
    try:
        async with connection.transaction():
            await connection.execute("DELETE FROM client_rows")
            async with connection.transaction():
                await connection.execute("INSERT INTO client_rows VALUES (1, 'x')")
            raise RuntimeError("taken back")
    except RuntimeError:
        pass
    print("kept", await connection.fetchval("SELECT count(*) FROM client_rows"))
    print("any", [r["id"] for r in await connection.fetch("SELECT id FROM client_rows WHERE id = ANY($1::int[]) ORDER BY id", [5, 7, 9999])])
    try:
        await connection.execute("SELECT pg_sleep(10)", timeout=0.3)
    except asyncio.TimeoutError:
        print("timed out")
    print("after", await connection.fetchval("SELECT 1"))
    pool = await asyncpg.create_pool(min_size=2, max_size=4)
    print("pool", sorted(await asyncio.gather(*[pool.fetchval("SELECT $1::int * 2", i) for i in range(10)])))
    await pool.close()

    await connection.execute("DROP TABLE IF EXISTS client_child, client_errors")
    await connection.execute(
        "CREATE TABLE client_errors (id int PRIMARY KEY, name varchar(9) NOT NULL, age int CHECK (age > 0));"
        "INSERT INTO client_errors VALUES (1, 'one', 1), (2, 'two', 2);"
        "CREATE TABLE client_child (parent int REFERENCES client_errors); INSERT INTO client_child VALUES (1)"
    )
    for line in open(sys.argv[1]):
        try:
            await connection.fetch(line)
            print("accepted", line.strip())
        except asyncpg.PostgresError as error:
            print(error.sqlstate, line.strip())
    await connection.close()


asyncio.run(main())
