// node-postgres: text results, values as strings unless its type parsers say otherwise.
// Connects as the PG* variables say (TLS when PGSSLMODE=require); prints one line per fact, which must be the same for
// StartDB and PostgreSQL.
const fs = require('fs');
const assert = require('assert');
const { Client, Pool } = require('pg');

const ssl = process.env.PGSSLMODE === 'require' ? { rejectUnauthorized: false } : false;
// column type, value to send, value to get
const values = [
  ['bool', true, true],
  ['int2', -32768, -32768],
  ['int4', 2147483647, 2147483647],
  ['int8', '9223372036854775807', '9223372036854775807'],
  ['float4', 1.5, 1.5],
  ['float8', 0.1, 0.1],
  ['numeric', '12345678901234567890.1234567890', '12345678901234567890.1234567890'],
  ['numeric(10,3)', '1234567.891', '1234567.891'],
  ['text', 'héllo 😀', 'héllo 😀'],
  ['varchar(10)', 'ten chars!', 'ten chars!'],
  ['char(5)', 'abc', 'abc  '],
  ['name', 'a_name', 'a_name'],
  ['bytea', Buffer.from([0, 1, 255]), Buffer.from([0, 1, 255])],
  ['date', '2024-02-29', new Date(2024, 1, 29)],
  ['time', '23:59:59.999999', '23:59:59.999999'],
  ['timestamp', '2024-02-29 12:34:56.789', new Date(2024, 1, 29, 12, 34, 56, 789)],
  ['timestamptz', new Date(Date.UTC(2024, 1, 29, 12, 34, 56, 789)), new Date(Date.UTC(2024, 1, 29, 12, 34, 56, 789))],
  ['interval', '1 day 02:03:04', { days: 1, hours: 2, minutes: 3, seconds: 4 }],
  ['uuid', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'],
  ['json', { a: [1, null] }, { a: [1, null] }],
  ['jsonb', { b: { c: true } }, { b: { c: true } }],
  ['oid', 4294967295, 4294967295],
  ['int4[]', [1, null, 3], [1, null, 3]],
  ['text[]', ['a', 'b c', null, ''], ['a', 'b c', null, '']],
  ['int8', null, null],
];

async function main() {
  const client = new Client({ ssl });
  await client.connect();
  await client.query('DROP TABLE IF EXISTS client_types');
  const columns = values.map(([kind], i) => `c${i} ${kind}`).join(', ');
  await client.query(`CREATE TABLE client_types (id int PRIMARY KEY, ${columns})`);
  const marks = values.map((_, i) => `$${i + 2}`).join(', ');
  const inserted = await client.query(`INSERT INTO client_types VALUES ($1, ${marks})`, [1, ...values.map((v) => v[1])]);
  console.log('inserted', inserted.rowCount, inserted.command);
  const { rows, fields } = await client.query('SELECT * FROM client_types WHERE id = $1', [1]);
  values.forEach(([kind, , want], i) => {
    const got = rows[0][`c${i}`];
    assert.deepEqual(got === null || typeof got !== 'object' || got instanceof Date || Buffer.isBuffer(got) ? got : { ...got },
      want === null || typeof want !== 'object' || want instanceof Date || Buffer.isBuffer(want) ? want : { ...want }, kind);
  });
  console.log('types', fields.map((f) => `${f.name}:${f.dataTypeID}:${f.dataTypeSize}:${f.dataTypeModifier}`).join(' '));
  for (const i of [1, 2, 3]) {
    const named = await client.query({ name: 'by-id', text: 'SELECT $1::int * 2 AS twice', values: [i] });
    console.log('named', named.rows);
  }
  const several = await client.query('SELECT 1 AS a; SELECT 2 AS b');
  console.log('several', several.map((r) => r.rows));
  await client.query('BEGIN');
  await client.query('DELETE FROM client_types');
  await client.query('ROLLBACK');
  console.log('kept', (await client.query('SELECT count(*) FROM client_types')).rows);
  const pool = new Pool({ ssl, max: 3 });
  console.log('pool', (await Promise.all([1, 2, 3, 4].map((i) => pool.query('SELECT $1::int AS n', [i])))).map((r) => r.rows[0].n));
  await pool.end();

  await client.query('DROP TABLE IF EXISTS client_child, client_errors');
  await client.query(`CREATE TABLE client_errors (id int PRIMARY KEY, name varchar(9) NOT NULL, age int CHECK (age > 0));
    INSERT INTO client_errors VALUES (1, 'one', 1), (2, 'two', 2);
    CREATE TABLE client_child (parent int REFERENCES client_errors); INSERT INTO client_child VALUES (1)`);
  for (const line of fs.readFileSync(process.argv[2], 'utf8').trim().split('\n')) {
    for (const parameters of [undefined, []]) {
      try {
        await client.query(parameters ? { text: line, values: parameters } : line);
        console.log('accepted', line);
      } catch (error) {
        console.log(error.code, error.constraint, line);
      }
    }
  }
  await client.end();
}

main().catch((error) => { console.error(error); process.exit(1); });
