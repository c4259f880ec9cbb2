//! Everything in `deploy/` and `compose.yaml`: checked by the programs it is for, and used.
//!
//! Grafana itself is in no package registry, so its dashboards are held to its published types, each of their queries is run
//! on a real Prometheus that scrapes a StartDB under load or on that StartDB, and must give rows.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::client::Login;
use crate::programs::{cache, command, have, said, succeed};
use crate::server::{PASSWORD, Server, binary, create, free_address, get};
use crate::telemetry::{Beside, fetch, wait_for};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn deploy(path: &str) -> PathBuf {
    root().join("deploy").join(path)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_systemd_unit_is_valid_and_confined() {
    if !have(&["systemd-analyze"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let unit = folder.path().join("startdb.service");
    // The program must exist for the check; the unit names where it would be installed.
    let text =
        read(&deploy("startdb.service")).replace("/usr/local/bin/startdb", env!("CARGO_BIN_EXE_startdb"));
    fs::write(&unit, text).expect("written");
    let checked = command("systemd-analyze").args(["verify", "--recursive-errors=no"]).arg(&unit).output();
    let checked = checked.expect("systemd-analyze");
    assert!(checked.status.success() && checked.stderr.is_empty(), "{}", said(&checked));
    succeed(command("systemd-analyze").args(["security", "--offline=true", "--threshold=20"]).arg(&unit));
}

/// Type=notify: the manager hears when clients can connect, and when the end begins.
#[test]
fn the_service_manager_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let hear = || {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).expect("a datagram");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let mut server = Server::start_with_environment(&[], &[("NOTIFY_SOCKET", path.to_str().expect("utf-8"))]);
    assert_eq!(hear(), "READY=1");
    assert_eq!(server.connect().value("SELECT 1"), "1");
    server.terminate();
    assert_eq!(hear(), "STOPPING=1");
}

#[test]
fn alerts_fire_when_they_should() {
    if !have(&["promtool"]) {
        return;
    }
    let folder = deploy("prometheus");
    succeed(command("promtool").args(["check", "config", "prometheus.yml"]).current_dir(&folder));
    succeed(command("promtool").args(["test", "rules", "alerts_test.yml"]).current_dir(&folder));
    // A test for each alert, and no metric that nobody gives.
    let (alerts, tests) = (read(&folder.join("alerts.yml")), read(&folder.join("alerts_test.yml")));
    for name in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(name), "{name} has no test");
    }
    let server = Server::start();
    let (_, metrics) = fetch(server.http, "/metrics", "").expect("an answer");
    for name in metric_names(&alerts) {
        assert!(metrics.contains(&name), "{name}, of an alert, is not in the metrics");
    }
}

/// Names of metrics in PromQL, by the prefixes they have here.
fn metric_names(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let prefixes = ["startdb_", "pg_", "process_"];
    let mut names: Vec<String> = words
        .filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix)) && word.len() > 8)
        .filter(|word| *word != "pg_stat_activity" || text.contains("pg_stat_activity{"))
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn compose_follows_its_schema_and_opens_nothing() {
    let file = root().join("compose.yaml");
    if have(&["check-jsonschema"]) {
        succeed(command("check-jsonschema").args(["--builtin-schema", "vendor.compose-spec"]).arg(&file));
    }
    let text = read(&file);
    let mut ports = 0;
    for line in text.lines().map(str::trim) {
        if let Some(port) =
            line.strip_prefix("- \"").filter(|line| line.contains(":80") || line.contains(":5432"))
        {
            assert!(port.starts_with("127.0.0.1:"), "{line}");
            ports += 1;
        }
        if let Some(image) = line.strip_prefix("image: ") {
            assert!(image.rsplit('/').next().is_some_and(|name| name.contains(':')), "{line} has no version");
            assert!(!image.ends_with(":latest"), "{line}");
        }
        // What it mounts from here is here.
        if let Some(mount) = line.strip_prefix("- ./") {
            let path = mount.split(':').next().unwrap_or_default();
            assert!(root().join(path).exists(), "{line}");
        }
    }
    assert_eq!(ports, 2, "the ports of StartDB");
    // Every variable it asks for is written by make-env, new each time, and for its owner only.
    let folder = tempfile::tempdir().expect("a folder");
    let mut passwords = Vec::new();
    for name in ["one", "two"] {
        let env = folder.path().join(name);
        succeed(Command::new("sh").arg(deploy("make-env")).arg(&env));
        assert_eq!(fs::metadata(&env).expect("a file").permissions().mode() & 0o777, 0o600);
        let again = Command::new("sh").arg(deploy("make-env")).arg(&env).output().expect("sh");
        assert!(!again.status.success(), "it was overwritten: {}", said(&again));
        let written = read(&env);
        for piece in text.split("${").skip(1) {
            let variable = piece.split([':', '}', '?']).next().unwrap_or_default();
            assert!(written.contains(&format!("{variable}=")), "{variable} is not in\n{written}");
        }
        passwords.push(written.lines().nth(1).map(str::to_owned));
    }
    assert_ne!(passwords[0], passwords[1]);
}

struct Dashboard {
    name: String,
    text: String,
    json: Value,
}

fn dashboards() -> Vec<Dashboard> {
    let mut all: Vec<Dashboard> = fs::read_dir(deploy("grafana/dashboards"))
        .expect("dashboards")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let text = read(&path);
            let json =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
            Dashboard { name, text, json }
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// (dashboard and panel, target) of every query there is.
fn targets(dashboards: &[Dashboard]) -> Vec<(String, &Value)> {
    let mut all = Vec::new();
    for dashboard in dashboards {
        for panel in dashboard.json["panels"].as_array().into_iter().flatten() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                all.push((format!("{}, {}", dashboard.name, panel["title"]), target));
            }
        }
    }
    all
}

#[test]
fn dashboards_are_complete() {
    let all = dashboards();
    let names: Vec<&str> = all.iter().map(|dashboard| dashboard.name.as_str()).collect();
    assert_eq!(names, ["cache", "query-performance", "resources", "self-tuning"]);
    for dashboard in &all {
        let json = &dashboard.json;
        assert_eq!(json["uid"], format!("startdb-{}", dashboard.name));
        assert!(json["description"].as_str().is_some_and(|text| !text.is_empty()));
        let variables: Vec<&str> = json["templating"]["list"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|variable| variable["name"].as_str())
            .collect();
        let mut identities = Vec::new();
        let mut titles = Vec::new();
        for panel in json["panels"].as_array().expect("panels") {
            let title = panel["title"].as_str().expect("a title");
            identities.push(panel["id"].as_u64().expect("an id"));
            if panel["type"] == "row" {
                continue;
            }
            let place = format!("{}: {title}", dashboard.name);
            titles.push(title);
            assert!(
                panel["description"].as_str().is_some_and(|text| text.len() > 15),
                "{place}: description"
            );
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{place}: unit");
            assert!(
                panel["targets"].as_array().is_some_and(|targets| !targets.is_empty()),
                "{place}: targets"
            );
            for target in panel["targets"].as_array().into_iter().flatten() {
                let source = target["datasource"]["uid"].as_str().expect("a source");
                let variable = source.trim_start_matches("${").trim_end_matches('}');
                assert!(source.starts_with("${") && variables.contains(&variable), "{place}: {source}");
                if let Some(expr) = target["expr"].as_str() {
                    // Every selector says whose numbers it wants, and every rate follows the zoom.
                    let selectors = metric_names(expr).len();
                    assert!(
                        expr.matches("job=\"$job\",instance=\"$instance\"").count() >= selectors,
                        "{place}: {expr}"
                    );
                    if expr.contains("rate(") {
                        assert!(expr.contains("[$__rate_interval]"), "{place}: {expr}");
                    }
                }
            }
        }
        for list in [
            identities.iter().map(u64::to_string).collect::<Vec<_>>(),
            titles.iter().map(|t| (*t).to_owned()).collect(),
        ] {
            let mut unique = list.clone();
            unique.sort();
            unique.dedup();
            assert_eq!(unique.len(), list.len(), "{}: {list:?}", dashboard.name);
        }
    }
}

/// Grafana's own TypeScript types say what a dashboard is.
#[test]
fn dashboards_follow_grafanas_schema() {
    if !have(&["grafana-schema"]) {
        return;
    }
    let folder =
        tempfile::Builder::new().prefix("dashboards-").tempdir_in(cache().join("node")).expect("a folder");
    let check = |name: &str, text: &str| {
        let file = folder.path().join(format!("{name}.ts"));
        let text = format!(
            "import type {{ Dashboard }} from '@grafana/schema';\nexport const board: Dashboard = {text};\n"
        );
        fs::write(&file, text).expect("written");
        Command::new(cache().join("node/node_modules/.bin/tsc"))
            .args([
                "--noEmit",
                "--strict",
                "--skipLibCheck",
                "--module",
                "node16",
                "--moduleResolution",
                "node16",
            ])
            .arg(&file)
            .output()
            .expect("tsc")
    };
    for dashboard in dashboards() {
        let output = check(&dashboard.name.replace('-', "_"), &dashboard.text);
        assert!(output.status.success(), "{}: {}", dashboard.name, said(&output));
    }
    assert!(!check("wrong", r#"{"schemaVersion": 41, "panels": [{"type": 7}]}"#).status.success());
}

#[test]
fn provisioning_says_what_grafana_reads() {
    let source = read(&deploy("grafana/provisioning/datasources/startdb.yaml"));
    for line in
        ["uid: prometheus", "uid: startdb", "sslmode: require", "database: $POSTGRES_DB", "user: grafana"]
    {
        assert!(source.contains(line), "{line}");
    }
    // A database beside jsonData is not read since Grafana 12.2.
    assert!(source.lines().any(|line| line.starts_with("      database:")));
    assert!(!source.lines().any(|line| line.starts_with("    database:")));
    let provider = read(&deploy("grafana/provisioning/dashboards/startdb.yaml"));
    let mounted = read(&root().join("compose.yaml"));
    assert!(provider.contains("path: /etc/grafana/dashboards"));
    assert!(mounted.contains("./deploy/grafana/dashboards:/etc/grafana/dashboards:ro"));
}

/// The statements of Grafana's query editor that list what there is (the rest is in slt/select/grafana.slt).
#[test]
fn grafana_lists_schemas_and_tables() {
    const TABLES: &str = r#"SELECT
    CASE WHEN
          quote_ident(table_schema) IN (
          SELECT
            CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
          FROM
            generate_series(
              array_lower(string_to_array(current_setting('search_path'),','),1),
              array_upper(string_to_array(current_setting('search_path'),','),1)
            ) as i,
            string_to_array(current_setting('search_path'),',') s
          )
      THEN quote_ident(table_name)
      ELSE quote_ident(table_schema) || '.' || quote_ident(table_name)
    END AS "table"
    FROM information_schema.tables
    WHERE quote_ident(table_schema) NOT IN ('information_schema',
                             'pg_catalog',
                             '_timescaledb_cache',
                             '_timescaledb_catalog',
                             '_timescaledb_internal',
                             '_timescaledb_config',
                             'timescaledb_information',
                             'timescaledb_experimental')
    ORDER BY CASE WHEN
          quote_ident(table_schema) IN (
          SELECT
            CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
          FROM
            generate_series(
              array_lower(string_to_array(current_setting('search_path'),','),1),
              array_upper(string_to_array(current_setting('search_path'),','),1)
            ) as i,
            string_to_array(current_setting('search_path'),',') s
          ) THEN 0 ELSE 1 END, 1"#;
    const SCHEMAS: &str = "SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT LIKE 'pg_%' ORDER BY schema_name";
    let server = Server::start();
    let mut client = server.connect();
    client.run("CREATE TABLE metrics (at timestamptz); CREATE TABLE \"Odd Name\" (a int)");
    client.run("CREATE SCHEMA shop; CREATE TABLE shop.orders (id int)");
    for answer in [client.run(TABLES), client.extended(TABLES, &[]).expect("an answer")] {
        let names: Vec<_> = answer.rows.iter().map(|row| row[0].as_deref().unwrap_or("NULL")).collect();
        let expected =
            ["\"Odd Name\"", "metrics", "shop.orders", "startdb.queries", "startdb.recommendations"];
        assert_eq!((answer.columns, names), (vec![String::from("table")], expected.to_vec()));
    }
    let names: Vec<_> = client.run(SCHEMAS).rows.into_iter().flatten().flatten().collect();
    assert_eq!(names, ["information_schema", "public", "shop", "startdb"]);
    // The health checks of its two drivers.
    for empty in ["-- ping", ";", ""] {
        let answers = client.simple(empty).expect("an empty answer");
        assert!(answers.len() == 1 && answers[0].tag.is_empty() && answers[0].columns.is_empty(), "{empty}");
    }
}

/// The demo's load, a Prometheus that scrapes it, and every query of every panel.
#[test]
fn every_panel_shows_something() {
    if !have(&["prometheus", "psql", "sh"]) {
        return;
    }
    let server = Server::start_with(&["checkpoint.interval=2s"]);
    succeed(server.libpq("sh").arg(deploy("initdb.d/10-grafana.sh")).env("GRAFANA_DB_PASSWORD", "look only"));
    let load_log = server.folder().join("load.log");
    let load = server
        .libpq("sh")
        .arg(deploy("demo/load.sh"))
        .env("PAUSE", "0.2")
        .stdout(create(&load_log))
        .stderr(Stdio::null())
        .spawn()
        .expect("the load");
    let _load = Beside(load);
    let address = free_address();
    let settings = server.folder().join("prometheus.yml");
    let ours = read(&deploy("prometheus/prometheus.yml"));
    let text = ours
        .replace("scrape_interval: 5s", "scrape_interval: 1s")
        .replace("startdb:8080", &server.http.to_string())
        .replace("alerts.yml", deploy("prometheus/alerts.yml").to_str().expect("utf-8"));
    assert_ne!(ours, text);
    fs::write(&settings, text).expect("written");
    let log = create(&server.folder().join("prometheus.log"));
    let prometheus = command("prometheus")
        .arg(format!("--config.file={}", settings.display()))
        .arg(format!("--storage.tsdb.path={}", server.folder().join("prometheus").display()))
        .arg(format!("--web.listen-address={address}"))
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log)
        .spawn();
    let _prometheus = Beside(prometheus.expect("prometheus"));
    let dashboards = dashboards();
    let targets = targets(&dashboards);
    assert!(targets.len() > 40, "{} queries", targets.len());
    // The instance as Prometheus labels it, by the query of the variable.
    let instance = server.http.to_string();
    let run = |expr: &str| {
        let expr = expr
            .replace("$__rate_interval", "15s")
            .replace("$job", "startdb")
            .replace("$instance", &instance)
            .replace("$datname", ".*");
        query(address, &expr)
    };
    for (place, target) in &targets {
        if let Some(expr) = target["expr"].as_str() {
            wait_for(&format!("{place}: {expr}"), Duration::from_secs(60), || {
                run(expr).expect("valid PromQL").iter().any(|value| value.is_finite()).then_some(())
            });
        }
    }
    let mut grafana =
        Login { user: String::from("grafana"), password: String::from("look only"), ..server.login() }
            .connect();
    for (place, target) in &targets {
        if let Some(sql) = target["rawSql"].as_str() {
            wait_for(&format!("{place}: {sql}"), Duration::from_secs(60), || {
                let answers = grafana.simple(sql).unwrap_or_else(|failure| panic!("{place}: {failure}"));
                (!answers.last().expect("an answer").rows.is_empty()).then_some(())
            });
        }
    }
    // It looks and does not touch.
    assert_eq!(grafana.refusal("CREATE TABLE mine (a int)").state(), "25006");
    grafana.run("SET default_transaction_read_only = off");
    assert_eq!(grafana.refusal("DELETE FROM demo_orders").state(), "42501");
    // Alerts are evaluated without an error, and the one for internal errors is silent.
    let (_, rules) = fetch(address, "/api/v1/rules", "").expect("an answer");
    let rules: Value = serde_json::from_str(&rules).expect("JSON");
    for rule in rules["data"]["groups"][0]["rules"].as_array().expect("rules") {
        assert!(rule["lastError"].is_null(), "{rule}");
        assert!(rule["name"] != "StartDBInternalErrors" || rule["state"] == "inactive", "{rule}");
    }
}

/// The values of an instant query.
fn query(address: SocketAddr, expr: &str) -> Option<Vec<f64>> {
    let mut encoded = String::new();
    for byte in expr.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    let (_, body) = wait_for("an answer of Prometheus", Duration::from_secs(20), || {
        fetch(address, &format!("/api/v1/query?query={encoded}"), "")
            .filter(|(head, _)| !head.contains(" 503 "))
    });
    let answer: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
    assert_eq!(answer["status"], "success", "{expr}: {body}");
    let result = answer["data"]["result"].as_array()?;
    Some(result.iter().filter_map(|sample| sample["value"][1].as_str()?.parse().ok()).collect())
}

/// Buildah with its own storage in a folder, without a container engine.
struct Images {
    folder: tempfile::TempDir,
}

impl Images {
    fn new() -> Images {
        Images { folder: tempfile::Builder::new().prefix("startdb-images-").tempdir().expect("a folder") }
    }

    fn buildah(&self) -> Command {
        let mut command = command("buildah");
        command
            .args(["--storage-driver", "vfs", "--root"])
            .arg(self.folder.path().join("root"))
            .arg("--runroot")
            .arg(self.folder.path().join("run"))
            .env("BUILDAH_ISOLATION", "chroot");
        command
    }

    /// An image to build upon, from what this machine runs on: its C library, and one program for a shell and the usual tools.
    fn base(&self) -> &'static str {
        let tree = self.folder.path().join("base");
        for folder in ["bin", "etc", "tmp", "var/lib", "usr/local/bin", "root", "proc", "dev", "sys"] {
            fs::create_dir_all(tree.join(folder)).expect("a folder");
        }
        fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("written");
        fs::write(tree.join("etc/group"), "root:x:0:\n").expect("written");
        fs::copy("/bin/busybox", tree.join("bin/busybox")).expect("busybox-static");
        for tool in ["sh", "mkdir", "chown", "chmod", "ls", "id", "cat"] {
            std::os::unix::fs::symlink("busybox", tree.join("bin").join(tool)).expect("a link");
        }
        let needed = succeed(Command::new("ldd").arg(env!("CARGO_BIN_EXE_startdb")));
        for library in needed.split_whitespace().filter(|word| word.starts_with('/')) {
            let place = tree.join(library.trim_start_matches('/'));
            fs::create_dir_all(place.parent().expect("a parent")).expect("a folder");
            fs::copy(library, place).unwrap_or_else(|error| panic!("{library}: {error}"));
        }
        fs::write(tree.join("Dockerfile"), "FROM scratch\nCOPY . /\n").expect("written");
        succeed(self.buildah().args(["bud", "--quiet", "--tag", "localhost/base"]).arg(&tree));
        "localhost/base"
    }
}

/// The image from a built program: it has the contract of the postgres image, and starts by its own entrypoint.
#[test]
fn the_prebuilt_image_starts() {
    if !have(&["buildah", "busybox"]) {
        return;
    }
    let images = Images::new();
    let base = images.base();
    let context = images.folder.path().join("context");
    fs::create_dir(&context).expect("a folder");
    fs::copy(env!("CARGO_BIN_EXE_startdb"), context.join("startdb")).expect("copied");
    succeed(
        images
            .buildah()
            .args([
                "bud",
                "--quiet",
                "--format",
                "docker",
                "--target",
                "prebuilt",
                "--tag",
                "localhost/startdb",
            ])
            .args(["--build-arg", &format!("BASE={base}"), "--build-arg", "BINARY=startdb", "--file"])
            .arg(deploy("Dockerfile"))
            .arg(&context),
    );
    let text = succeed(images.buildah().args(["inspect", "--type", "image", "localhost/startdb"]));
    let image: Value = serde_json::from_str(&text).expect("JSON");
    let config = &image["Docker"]["config"];
    assert_eq!(config["User"], "999:999");
    assert_eq!(config["StopSignal"], "SIGINT");
    assert_eq!(config["Healthcheck"]["Test"], serde_json::json!(["CMD", "startdb", "healthcheck"]));
    assert_eq!(config["Healthcheck"]["Interval"], 5_000_000_000_u64);
    assert_eq!(config["Healthcheck"]["Retries"], 3);
    assert!(config["Volumes"]["/var/lib/startdb"].is_object(), "{config}");
    for port in ["5432/tcp", "8080/tcp"] {
        assert!(config["ExposedPorts"][port].is_object(), "{config}");
    }
    assert_eq!(
        (&config["Entrypoint"], &config["Cmd"]),
        (&serde_json::json!(["startdb"]), &serde_json::json!(["start"]))
    );

    // Started as the image says, in a chroot of its files that cannot be written to but for the volume and /tmp.
    let container =
        succeed(images.buildah().args(["from", "--quiet", "localhost/startdb"])).trim().to_owned();
    let mounted = succeed(images.buildah().args(["mount", &container])).trim().to_owned();
    let (address, http) = (free_address(), free_address());
    let run = |arguments: &[&str]| {
        let mut command = Command::new("chroot");
        command.args(["--userspec=999:999", &mounted]).env_clear().args(arguments);
        for variable in config["Env"].as_array().into_iter().flatten() {
            let (name, value) = variable.as_str().and_then(|v| v.split_once('=')).expect("a variable");
            command.env(name, value);
        }
        // The test's own ports; within a network of its own it would keep the image's.
        command.env("STARTDB_LISTEN", address.to_string()).env("STARTDB_HTTP", http.to_string());
        command
    };
    let entrypoint = ["/usr/local/bin/startdb", "start"];
    let log = images.folder.path().join("log");
    let file = create(&log);
    let child = run(&[&entrypoint[..], &["-c", "work_mem=64MB"]].concat())
        .env("POSTGRES_USER", "owner")
        .env("POSTGRES_PASSWORD", PASSWORD)
        .env("POSTGRES_DB", "app")
        .stdout(file.try_clone().expect("a second handle"))
        .stderr(file)
        .spawn();
    let mut child = Beside(child.expect("the image's program"));
    wait_for("readiness", Duration::from_secs(30), || {
        let ended = child.0.try_wait().expect("a status");
        assert!(ended.is_none(), "{ended:?}: {}", read(&log));
        get(http, "/readyz").filter(|answer| answer.starts_with("HTTP/1.1 200"))
    });
    let login = Login {
        address,
        user: String::from("owner"),
        password: PASSWORD.to_owned(),
        database: String::from("app"),
    };
    let mut client = login.connect();
    assert_eq!(client.value("SHOW work_mem"), "64MB");
    client.run("CREATE TABLE kept (a int); INSERT INTO kept VALUES (42)");
    let owner = fs::metadata(Path::new(&mounted).join("var/lib/startdb/data")).expect("the data");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner), 999);
    assert_eq!(owner.permissions().mode() & 0o777, 0o700);
    // The image's own health check, run as an engine would.
    let check = config["Healthcheck"]["Test"].as_array().expect("a command");
    let check: Vec<&str> = check.iter().skip(1).filter_map(Value::as_str).collect();
    if binary().args(["healthcheck", "--help"]).output().is_ok_and(|help| help.status.success()) {
        let program = format!("/usr/local/bin/{}", check[0]);
        succeed(&mut run(&[&[program.as_str()], &check[1..]].concat()));
    }
    // The image's stop signal ends it well within ten seconds.
    let pid = rustix::process::Pid::from_child(&child.0);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("sent");
    let status = wait_for("the end", Duration::from_secs(10), || child.0.try_wait().expect("a status"));
    assert!(status.success(), "{status}: {}", read(&log));
}

/// The image that compiles StartDB itself. The compiler is this machine's, mounted where the image looks for it; the caches
/// begin with what this machine has compiled, so that little is compiled again. It copies gigabytes, and what is copied must
/// not change meanwhile: it runs with `STARTDB_TESTS=all`, when nothing else builds.
#[test]
fn the_image_from_source_builds() {
    if std::env::var("STARTDB_TESTS").as_deref() != Ok("all") {
        eprintln!("skipped, it runs with STARTDB_TESTS=all");
        return;
    }
    assert!(have(&["buildah", "busybox", "cc"]));
    let images = Images::new();
    let base = images.base();
    let tree = images.folder.path().join("rust");
    for folder in [
        "usr/bin",
        "usr/lib",
        "usr/lib64",
        "usr/include",
        "usr/local/cargo",
        "etc/alternatives",
        "etc/ssl",
        "rust",
        "tmp",
        "root",
    ] {
        fs::create_dir_all(tree.join(folder)).expect("a folder");
    }
    for folder in ["bin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{folder}"), tree.join(folder)).expect("a link");
    }
    // Crates are known by where their sources lie: the image's folder for them has the name that this machine's has.
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.unwrap_or_else(|| Path::new(&std::env::var_os("HOME").expect("a home")).join(".cargo"));
    let inside = tree.join(home.strip_prefix("/").expect("an absolute path"));
    fs::create_dir_all(&inside).expect("a folder");
    std::os::unix::fs::symlink("/usr/local/cargo/registry", inside.join("registry")).expect("a link");
    let settings = format!(
        "FROM scratch\nCOPY . /\nENV PATH=/rust/bin:/usr/bin CARGO_HOME={} HOME=/root\n",
        home.display()
    );
    fs::write(tree.join("Dockerfile"), settings).expect("written");
    succeed(images.buildah().args(["bud", "--quiet", "--tag", "localhost/rust"]).arg(&tree));
    // Where buildah keeps the caches of `RUN --mount=type=cache`, by the place they are mounted at.
    let caches = images.folder.path().join("buildah-cache");
    let release = Path::new(env!("CARGO_BIN_EXE_startdb")).parent().expect("a folder");
    let target = caches.join("src/target/release");
    fs::create_dir_all(&target).expect("a folder");
    for part in [".fingerprint", "build", "deps"] {
        succeed(Command::new("cp").arg("-a").arg(release.join(part)).arg(&target));
    }
    let registry = caches.join("usr/local/cargo");
    fs::create_dir_all(&registry).expect("a folder");
    succeed(Command::new("cp").arg("-a").arg(home.join("registry")).arg(&registry));
    let sysroot = succeed(Command::new("rustc").args(["--print", "sysroot"]));
    let mounts = ["/usr/bin", "/usr/lib", "/usr/lib64", "/usr/include", "/etc/alternatives", "/etc/ssl"]
        .map(|path| format!("{path}:{path}:ro"));
    let mounts = mounts.into_iter().chain([format!("{}:/rust:ro", sysroot.trim())]);
    let log = images.folder.path().join("build.log");
    let file = create(&log);
    let status = images
        .buildah()
        .args([
            "bud",
            "--format",
            "docker",
            "--target",
            "source",
            "--tag",
            "localhost/startdb",
            "--network",
            "host",
        ])
        .args(["--build-arg", &format!("BASE={base}"), "--build-arg", "RUST=localhost/rust"])
        .args(mounts.flat_map(|mount| [String::from("--volume"), mount]))
        .arg("--ignorefile")
        .arg(root().join(".dockerignore"))
        .arg("--file")
        .arg(deploy("Dockerfile"))
        .arg(root())
        .env("TMPDIR", images.folder.path())
        .stdout(file.try_clone().expect("a second handle"))
        .stderr(file)
        .status()
        .expect("buildah");
    assert!(status.success(), "{}", read(&log));
    succeed(images.buildah().args(["from", "--name", "built", "localhost/startdb"]));
    let shown =
        succeed(images.buildah().args(["run", "--isolation", "chroot", "built", "startdb", "--version"]));
    assert!(shown.starts_with("startdb "), "{shown}");
}
