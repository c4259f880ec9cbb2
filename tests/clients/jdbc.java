// The PostgreSQL JDBC driver: binary results after five executions, batches, generated keys, metadata of the catalogs.
// Connects as the PG* variables say; prints one line per fact, which must be the same for StartDB and PostgreSQL.

import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.*;
import java.time.*;
import java.util.*;

public class Jdbc {
    static void say(Object... parts) {
        StringBuilder line = new StringBuilder();
        for (Object part : parts) {
            line.append(line.length() == 0 ? "" : " ").append(part);
        }
        System.out.println(line);
    }

    static void must(boolean right, String what) {
        if (!right) throw new AssertionError(what);
    }

    static Connection connect(String... more) throws SQLException {
        Map<String, String> env = System.getenv();
        String database = env.getOrDefault("PGDATABASE", "postgres");
        String url = "jdbc:postgresql://" + env.get("PGHOST") + ":" + env.get("PGPORT") + "/" + database;
        Properties how = new Properties();
        how.setProperty("user", env.get("PGUSER"));
        how.setProperty("password", env.getOrDefault("PGPASSWORD", ""));
        how.setProperty("sslmode", env.getOrDefault("PGSSLMODE", "prefer"));
        for (int i = 0; i + 1 < more.length; i += 2) how.setProperty(more[i], more[i + 1]);
        return DriverManager.getConnection(url, how);
    }

    /** A result's names, types and values, without the columns that differ from server to server. */
    static void show(String title, ResultSet rows, String... skipped) throws SQLException {
        Set<String> without = new TreeSet<>(String.CASE_INSENSITIVE_ORDER);
        without.addAll(Arrays.asList(skipped));
        ResultSetMetaData shape = rows.getMetaData();
        StringBuilder head = new StringBuilder();
        for (int i = 1; i <= shape.getColumnCount(); i++) {
            head.append(shape.getColumnName(i)).append(':').append(shape.getColumnTypeName(i)).append(' ');
        }
        say(title, head);
        while (rows.next()) {
            StringBuilder line = new StringBuilder();
            for (int i = 1; i <= shape.getColumnCount(); i++) {
                if (!without.contains(shape.getColumnName(i))) line.append(rows.getString(i)).append('|');
            }
            say(title, line);
        }
        rows.close();
    }

    static void fails(String title, Connection c, String sql) throws SQLException {
        try (Statement s = c.createStatement()) {
            s.execute(sql);
            say(title, "no error");
        } catch (SQLException error) {
            say(title, error.getSQLState(), error.getMessage().replace('\n', '~'));
        }
    }

    static void types(Connection c) throws SQLException {
        try (Statement s = c.createStatement()) {
            s.execute("DROP TABLE IF EXISTS jdbc_types");
            s.execute("CREATE TABLE jdbc_types (id int PRIMARY KEY, b bool, s int2, i int4, l int8, f float4, d float8,"
                + " n numeric(20,5), w numeric, t text, v varchar(10), c char(5), y bytea, da date, ti time, ts timestamp,"
                + " tz timestamptz, iv interval, u uuid, j json, jb jsonb, ia int4[], ta text[], na numeric[])");
        }
        UUID uuid = UUID.fromString("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
        OffsetDateTime moment = OffsetDateTime.of(2024, 2, 29, 12, 34, 56, 789_123_000, ZoneOffset.ofHours(2));
        try (PreparedStatement p = c.prepareStatement("INSERT INTO jdbc_types VALUES"
                + " (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?::interval, ?, ?::json, ?::jsonb, ?, ?, ?)")) {
            Object[] values = {1, true, (short) -32768, Integer.MAX_VALUE, Long.MIN_VALUE, 1.5f, 0.1d,
                new BigDecimal("12345678901234.56789"), new BigDecimal("1E-30"), "héllo 😀", "ten chars!", "abc",
                "\0\1\377".getBytes(StandardCharsets.ISO_8859_1), LocalDate.of(2024, 2, 29),
                LocalTime.of(23, 59, 59, 999_999_000), LocalDateTime.of(2024, 2, 29, 12, 34, 56, 789_000_000), moment,
                "1 mon 2 days 03:04:05.6", uuid, "{\"a\": [1, null]}", "{\"b\": {\"c\": true}}",
                c.createArrayOf("int4", new Integer[] {1, null, 3}), c.createArrayOf("text", new String[] {"a", "b c", null, "", "\"{}"}),
                c.createArrayOf("numeric", new BigDecimal[] {new BigDecimal("1.50"), new BigDecimal("-3")})};
            for (int i = 0; i < values.length; i++) p.setObject(i + 1, values[i]);
            say("inserted", p.executeUpdate());
            p.setInt(1, 2);
            for (int i = 2; i <= values.length; i++) p.setNull(i, Types.NULL);
            say("inserted nulls", p.executeUpdate());
        }
        // From the sixth execution on the driver asks for binary results.
        try (PreparedStatement p = c.prepareStatement("SELECT * FROM jdbc_types WHERE id = ?")) {
            for (int round = 1; round <= 8; round++) {
                p.setInt(1, round % 2 == 0 ? 2 : 1);
                try (ResultSet r = p.executeQuery()) {
                    must(r.next(), "a row");
                    if (round % 2 == 0) {
                        for (int i = 2; i <= r.getMetaData().getColumnCount(); i++) {
                            must(r.getObject(i) == null, "null " + i);
                        }
                        continue;
                    }
                    must(r.getBoolean("b") && r.getShort("s") == -32768 && r.getInt("i") == Integer.MAX_VALUE, "integers");
                    must(r.getLong("l") == Long.MIN_VALUE && r.getFloat("f") == 1.5f && r.getDouble("d") == 0.1d, "numbers");
                    must(r.getBigDecimal("n").toPlainString().equals("12345678901234.56789"), "numeric(20,5)");
                    must(r.getBigDecimal("w").compareTo(new BigDecimal("1E-30")) == 0, "numeric");
                    must(r.getString("t").equals("héllo 😀") && r.getString("c").equals("abc  "), "texts");
                    must(Arrays.equals(r.getBytes("y"), "\0\1\377".getBytes(StandardCharsets.ISO_8859_1)), "bytea");
                    must(r.getObject("da", LocalDate.class).equals(LocalDate.of(2024, 2, 29)), "date");
                    must(r.getObject("ti", LocalTime.class).equals(LocalTime.of(23, 59, 59, 999_999_000)), "time");
                    must(r.getObject("ts", LocalDateTime.class).equals(LocalDateTime.of(2024, 2, 29, 12, 34, 56, 789_000_000)), "timestamp");
                    must(r.getObject("tz", OffsetDateTime.class).toInstant().equals(moment.toInstant()), "timestamptz");
                    must(r.getTimestamp("tz").toInstant().equals(moment.toInstant()), "Timestamp");
                    must(r.getObject("u").equals(uuid), "uuid");
                    say("round", round, r.getString("iv"), r.getString("j"), r.getString("jb"), r.getString("tz"),
                        Arrays.toString((Object[]) r.getArray("ia").getArray()), Arrays.toString((Object[]) r.getArray("ta").getArray()),
                        Arrays.toString((Object[]) r.getArray("na").getArray()));
                }
            }
        }
        try (Statement s = c.createStatement(); ResultSet r = s.executeQuery("SELECT * FROM jdbc_types ORDER BY id")) {
            ResultSetMetaData m = r.getMetaData();
            for (int i = 1; i <= m.getColumnCount(); i++) {
                say("column", m.getColumnName(i), m.getColumnTypeName(i), m.getColumnType(i), m.getPrecision(i), m.getScale(i),
                    m.getColumnDisplaySize(i), m.getColumnClassName(i), m.isNullable(i), m.isAutoIncrement(i), m.getTableName(i));
            }
        }
        try (PreparedStatement p = c.prepareStatement("SELECT id FROM jdbc_types WHERE i = ? AND t LIKE ? OR tz > ? AND n < ?")) {
            ParameterMetaData m = p.getParameterMetaData();
            for (int i = 1; i <= m.getParameterCount(); i++) say("parameter", m.getParameterTypeName(i), m.getParameterClassName(i));
        }
        try (PreparedStatement p = c.prepareStatement("SELECT count(*) FROM jdbc_types WHERE id = ANY (?) AND ta @> ?")) {
            p.setArray(1, c.createArrayOf("int4", new Integer[] {1, 2, 3}));
            p.setArray(2, c.createArrayOf("text", new String[] {"a"}));
            ResultSet r = p.executeQuery();
            must(r.next(), "a count");
            say("any", r.getInt(1));
        }
    }

    static void changes(Connection c) throws SQLException {
        try (Statement s = c.createStatement()) {
            s.execute("DROP VIEW IF EXISTS jdbc_view");
            s.execute("DROP TABLE IF EXISTS jdbc_line, jdbc_order");
            s.execute("CREATE TABLE jdbc_order (id bigserial PRIMARY KEY, name text NOT NULL UNIQUE, at timestamptz DEFAULT now())");
            s.execute("CREATE TABLE jdbc_line (order_id bigint NOT NULL REFERENCES jdbc_order (id) ON DELETE CASCADE, pos int,"
                + " amount numeric(10,2) NOT NULL DEFAULT 0 CHECK (amount >= 0), PRIMARY KEY (order_id, pos))");
            s.execute("CREATE INDEX jdbc_line_amount ON jdbc_line (amount DESC)");
            s.execute("CREATE OR REPLACE VIEW jdbc_view AS SELECT name, id FROM jdbc_order");
            s.execute("COMMENT ON TABLE jdbc_order IS 'orders'");
            s.execute("COMMENT ON COLUMN jdbc_order.name IS 'what it is called'");
        }
        try (PreparedStatement p = c.prepareStatement("INSERT INTO jdbc_order (name) VALUES (?)", Statement.RETURN_GENERATED_KEYS)) {
            p.setString(1, "first");
            p.executeUpdate();
            ResultSet keys = p.getGeneratedKeys();
            must(keys.next(), "a key");
            say("generated", keys.getLong("id"), keys.getString("name"), keys.getMetaData().getColumnCount());
        }
        try (PreparedStatement p = c.prepareStatement("INSERT INTO jdbc_order (name) VALUES (?)", new String[] {"id"})) {
            for (int i = 0; i < 300; i++) {
                p.setString(1, "batch " + i);
                p.addBatch();
            }
            int[] counts = p.executeBatch();
            ResultSet keys = p.getGeneratedKeys();
            long last = 0;
            int seen = 0;
            while (keys.next()) {
                last = keys.getLong(1);
                seen++;
            }
            say("batch", counts.length, counts[299], seen, last);
        }
        c.setAutoCommit(false);
        try (PreparedStatement p = c.prepareStatement("INSERT INTO jdbc_line VALUES (?, ?, ?)")) {
            for (int i = 1; i <= 1000; i++) {
                p.setLong(1, 1 + i % 300);
                p.setInt(2, i);
                p.setBigDecimal(3, new BigDecimal(i).movePointLeft(2));
                p.addBatch();
            }
            say("lines", p.executeBatch().length);
            c.commit();
            p.setLong(1, 1);
            p.setInt(2, 5000);
            p.setBigDecimal(3, new BigDecimal("-1"));
            p.addBatch();
            try {
                p.executeBatch();
            } catch (BatchUpdateException error) {
                say("batch fails", error.getSQLState(), error.getNextException().getMessage().replace('\n', '~').replaceAll("\\(.*\\)", "(..)"));
            }
            c.rollback();
        }
        Savepoint point = c.setSavepoint("here");
        fails("duplicate", c, "INSERT INTO jdbc_order (name) VALUES ('first')");
        c.rollback(point);
        try (Statement s = c.createStatement()) {
            // A cursor: rows in fives, in a transaction.
            s.setFetchSize(5);
            ResultSet r = s.executeQuery("SELECT pos FROM jdbc_line ORDER BY pos");
            long sum = 0;
            while (r.next()) sum += r.getInt(1);
            say("fetched", sum);
            say("updated", s.executeUpdate("UPDATE jdbc_line SET amount = amount + 1 WHERE pos <= 10"));
        }
        c.rollback();
        c.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
        say("isolation", c.getTransactionIsolation());
        try (Statement s = c.createStatement(); ResultSet r = s.executeQuery("SELECT sum(amount) FROM jdbc_line")) {
            must(r.next(), "a sum");
            say("sum", r.getBigDecimal(1));
        }
        c.commit();
        c.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
        c.setReadOnly(true);
        fails("read only", c, "DELETE FROM jdbc_line");
        c.rollback();
        c.setReadOnly(false);
        c.setAutoCommit(true);
        try (Statement s = c.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)) {
            ResultSet r = s.executeQuery("SELECT id, name FROM jdbc_order WHERE id < 4 ORDER BY id");
            must(r.absolute(2), "second");
            r.updateString("name", "renamed");
            r.updateRow();
            must(r.last(), "last");
            r.deleteRow();
            r.moveToInsertRow();
            r.updateLong("id", 5000);
            r.updateString("name", "inserted");
            r.insertRow();
        }
        try (Statement s = c.createStatement()) {
            show("updatable", s.executeQuery("SELECT id, name FROM jdbc_order WHERE id < 4 OR id = 5000 ORDER BY id"));
            s.setMaxRows(2);
            show("most", s.executeQuery("SELECT id FROM jdbc_order ORDER BY id"));
            s.setMaxRows(0);
            s.setQueryTimeout(1);
            try {
                s.execute("SELECT pg_sleep(30)");
            } catch (SQLException error) {
                say("timeout", error.getSQLState());
            }
        }
        fails("syntax", c, "SELEC 1");
        fails("no table", c, "SELECT * FROM jdbc_nowhere");
    }

    static void metadata(Connection c) throws SQLException {
        DatabaseMetaData m = c.getMetaData();
        say("product", m.getDatabaseProductName(), m.getDatabaseMajorVersion(), m.getIdentifierQuoteString(), m.getMaxColumnNameLength());
        show("tables", m.getTables(null, "public", "jdbc%", new String[] {"TABLE", "VIEW"}));
        show("columns", m.getColumns(null, "public", "jdbc\\_%", null));
        show("keys", m.getPrimaryKeys(null, "public", "jdbc_line"));
        show("indexes", m.getIndexInfo(null, "public", "jdbc_line", false, true), "CARDINALITY", "PAGES");
        show("imported", m.getImportedKeys(null, "public", "jdbc_line"));
        show("exported", m.getExportedKeys(null, "public", "jdbc_order"));
        show("cross", m.getCrossReference(null, "public", "jdbc_order", null, "public", "jdbc_line"));
        show("table privileges", m.getTablePrivileges(null, "public", "jdbc_line"));
        show("column privileges", m.getColumnPrivileges(null, "public", "jdbc_line", "pos"));
        show("best", m.getBestRowIdentifier(null, "public", "jdbc_line", DatabaseMetaData.bestRowSession, true));
        show("table types", m.getTableTypes());
        // What is built in has no descriptions here.
        show("functions", m.getFunctions(null, "pg_catalog", "initcap"), "REMARKS", "FUNCTION_CAT");
        show("function columns", m.getFunctionColumns(null, "pg_catalog", "initcap", null));
        show("procedures", m.getProcedures(null, "public", "%"));
        show("client", m.getClientInfoProperties());
        try (ResultSet r = m.getSchemas()) {
            Set<String> names = new TreeSet<>();
            while (r.next()) names.add(r.getString(1));
            must(names.containsAll(List.of("public", "pg_catalog", "information_schema")), "schemas");
        }
        try (ResultSet r = m.getCatalogs()) {
            Set<String> names = new TreeSet<>();
            while (r.next()) names.add(r.getString(1));
            must(names.contains(c.getCatalog()), "catalogs");
        }
        // Among types of one code the order is that of the server's catalog.
        try (ResultSet r = m.getTypeInfo()) {
            Set<String> lines = new TreeSet<>();
            while (r.next()) {
                String name = r.getString("TYPE_NAME");
                if (List.of("int4", "int8", "text", "numeric", "timestamptz", "bytea", "uuid", "jsonb", "_text", "serial").contains(name)) {
                    lines.add(name + " " + r.getInt("DATA_TYPE") + " " + r.getInt("PRECISION") + " " + r.getBoolean("CASE_SENSITIVE")
                        + " " + r.getBoolean("AUTO_INCREMENT"));
                }
            }
            lines.forEach(line -> say("type", line));
        }
    }

    public static void main(String[] arguments) throws Exception {
        for (String mode : List.of("extended", "simple", "extendedForPrepared")) {
            try (Connection c = connect("preferQueryMode", mode, "ApplicationName", "jdbc test")) {
                say("mode", mode, c.isValid(5));
                try (Statement s = c.createStatement()) {
                    show("application", s.executeQuery("SELECT current_setting('application_name')"));
                }
                if (!mode.equals("simple")) types(c);
                changes(c);
            }
        }
        try (Connection c = connect("reWriteBatchedInserts", "true")) {
            changes(c);
            metadata(c);
            try (Statement s = c.createStatement()) {
                for (String sql : new String(java.nio.file.Files.readAllBytes(java.nio.file.Path.of(arguments[0]))).split(";\n")) {
                    if (!sql.isBlank()) fails("failing", c, sql);
                }
                s.execute("DROP VIEW jdbc_view");
                s.execute("DROP TABLE jdbc_line, jdbc_order, jdbc_types");
            }
        }
    }
}
