//! Where a client connects and as whom: libpq's parameters from a URL or a keyword string, the service file, the environment, and
//! last the server of the local data directory.
//!
//! The order is libpq's: what is written in the connection string wins over the service file, that over the environment, that
//! over defaults. One thing is ours: with neither a host nor a URL the target is the server whose data directory is here
//! (`./startdb-data`), because that is the server a newcomer has just started.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// libpq's parameters: keyword, variable.
const PARAMETERS: &[(&str, &str)] = &[
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("dbname", "PGDATABASE"),
    ("passfile", "PGPASSFILE"),
    ("service", "PGSERVICE"),
    ("options", "PGOPTIONS"),
    ("application_name", "PGAPPNAME"),
    ("fallback_application_name", ""),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("client_encoding", "PGCLIENTENCODING"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslnegotiation", "PGSSLNEGOTIATION"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
];

/// Parameters that change nothing here: tuning of the socket, and ways of encryption StartDB does not speak and does not offer.
const WITHOUT_EFFECT: &[&str] = &[
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "gssencmode",
    "gsslib",
    "krbsrvname",
    "sslsni",
    "sslcompression",
    "ssl_min_protocol_version",
    "load_balance_hosts",
];

/// Parameters of libpq that a client may rely on for its safety: leaving them out silently would be worse than refusing.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("sslcert", "log in with a password"),
    ("sslkey", "log in with a password"),
    ("sslpassword", "log in with a password"),
    ("sslcrl", "remove the certificate from sslrootcert"),
    ("sslcrldir", "remove the certificate from sslrootcert"),
    ("require_auth", "channel_binding=require"),
    ("requirepeer", "a TCP connection with sslmode=verify-full"),
    ("ssl_max_protocol_version", "the default"),
    ("replication", "an ordinary connection"),
    ("sslcertmode", "the default"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

/// What the session must be able to do; the first host that can is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionAttributes {
    Any,
    ReadWrite,
    ReadOnly,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// Directory of the socket.
    Unix(PathBuf),
    /// A name or address to connect to, and the name the certificate must have.
    Tcp { address: String, name: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub host: Host,
    pub port: u16,
}

impl Endpoint {
    /// As people name it: `127.0.0.1:5432` or the path of the socket.
    pub fn shown(&self) -> String {
        match &self.host {
            Host::Unix(directory) => directory.join(format!(".s.PGSQL.{}", self.port)).display().to_string(),
            Host::Tcp { address, .. } if address.contains(':') => format!("[{address}]:{}", self.port),
            Host::Tcp { address, .. } => format!("{address}:{}", self.port),
        }
    }
}

/// Everything needed to log in.
#[derive(Clone, Debug)]
pub struct Target {
    pub endpoints: Vec<Endpoint>,
    pub user: String,
    pub database: String,
    /// As given in the connection string or PGPASSWORD; the password file is asked when a server wants one.
    pub password: Option<String>,
    pub passfile: Option<PathBuf>,
    /// What got this user in before, for connecting again.
    pub remembered: Option<String>,
    /// `DATA/initial-password` of a local server: tried before a person is asked.
    pub initial_password: Option<PathBuf>,
    pub ssl: SslMode,
    pub ssl_direct: bool,
    pub root_certificate: Option<PathBuf>,
    pub channel_binding: ChannelBinding,
    pub session: SessionAttributes,
    pub connect_timeout: Option<Duration>,
    /// Startup parameters besides user and database.
    pub parameters: Vec<(String, String)>,
}

/// What the process knows of its surroundings; tests give their own.
pub struct Surroundings<'a> {
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    pub data_dir: PathBuf,
}

impl Default for Target {
    /// Nothing but the defaults of a connection; nowhere to connect to.
    fn default() -> Target {
        Target {
            endpoints: Vec::new(),
            user: String::new(),
            database: String::new(),
            password: None,
            passfile: None,
            remembered: None,
            initial_password: None,
            ssl: SslMode::Prefer,
            ssl_direct: false,
            root_certificate: None,
            channel_binding: ChannelBinding::Prefer,
            session: SessionAttributes::Any,
            connect_timeout: None,
            parameters: Vec::new(),
        }
    }
}

impl Target {
    /// From a URL, a keyword string, or a database's name (or nothing), completed by the surroundings. The error is for people.
    pub fn resolve(text: Option<&str>, around: &Surroundings<'_>) -> Result<Target, String> {
        let mut given = match text {
            None => BTreeMap::new(),
            Some(text) if text.starts_with("postgresql://") || text.starts_with("postgres://") => url(text)?,
            Some(text) if text.contains('=') => keywords(text)?,
            Some(name) => BTreeMap::from([("dbname".to_owned(), name.to_owned())]),
        };
        for (name, value) in &given {
            check(name, value)?;
        }
        let variable = |name: &str| (around.variable)(name).filter(|value| !value.is_empty());
        if let Some(service) = given.get("service").cloned().or_else(|| variable("PGSERVICE")) {
            for (name, value) in service_file(&service, &variable)? {
                check(&name, &value)?;
                given.entry(name).or_insert(value);
            }
        }
        for (keyword, name) in PARAMETERS {
            if !name.is_empty()
                && !given.contains_key(*keyword)
                && let Some(value) = variable(name)
            {
                given.insert((*keyword).to_owned(), value);
            }
        }
        let get = |name: &str| given.get(name).filter(|value| !value.is_empty()).cloned();

        let named = get("host").is_some() || get("hostaddr").is_some();
        let local = if named { None } else { local_socket(&around.data_dir, get("port").as_deref()) };
        let endpoints = endpoints(get("host"), get("hostaddr"), get("port"), local.as_ref())?;
        let user = match (get("user"), named) {
            (Some(user), _) => user,
            (None, false) => "postgres".to_owned(),
            (None, true) => {
                operating_system_user(&variable).ok_or("no user name is known; give one: user=NAME")?
            }
        };
        let mut parameters = Vec::new();
        let name = get("application_name").or_else(|| get("fallback_application_name"));
        parameters.push(("application_name".to_owned(), name.unwrap_or_else(|| "startdb sql".to_owned())));
        parameters.push((
            "client_encoding".to_owned(),
            get("client_encoding")
                .filter(|value| !value.eq_ignore_ascii_case("auto"))
                .unwrap_or_else(|| "UTF8".to_owned()),
        ));
        if let Some(options) = get("options") {
            parameters.push(("options".to_owned(), options));
        }
        for (name, parameter) in [("PGDATESTYLE", "DateStyle"), ("PGTZ", "TimeZone")] {
            if let Some(value) = variable(name) {
                parameters.push((parameter.to_owned(), value));
            }
        }
        let home = variable("HOME").map(PathBuf::from);
        let ssl = match get("sslmode").as_deref() {
            Some("disable") => SslMode::Disable,
            Some("allow") => SslMode::Allow,
            Some("require") => SslMode::Require,
            Some("verify-ca") => SslMode::VerifyCa,
            Some("verify-full") => SslMode::VerifyFull,
            _ => SslMode::Prefer,
        };
        Ok(Target {
            endpoints,
            database: get("dbname").unwrap_or_else(|| user.clone()),
            user,
            password: get("password"),
            passfile: get("passfile")
                .map(PathBuf::from)
                .or_else(|| home.as_ref().map(|home| home.join(".pgpass"))),
            remembered: None,
            initial_password: (!named).then(|| around.data_dir.join("initial-password")),
            ssl,
            ssl_direct: get("sslnegotiation").as_deref() == Some("direct"),
            root_certificate: get("sslrootcert")
                .map(PathBuf::from)
                .or_else(|| home.map(|home| home.join(".postgresql/root.crt")).filter(|file| file.exists())),
            channel_binding: match get("channel_binding").as_deref() {
                Some("disable") => ChannelBinding::Disable,
                Some("require") => ChannelBinding::Require,
                _ => ChannelBinding::Prefer,
            },
            session: match get("target_session_attrs").as_deref() {
                Some("read-write" | "primary") => SessionAttributes::ReadWrite,
                Some("read-only" | "standby") => SessionAttributes::ReadOnly,
                _ => SessionAttributes::Any,
            },
            connect_timeout: get("connect_timeout")
                .and_then(|seconds| seconds.trim().parse::<u64>().ok())
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
            parameters,
        })
    }

    /// The same server and user, another database.
    pub fn database(&self, name: &str) -> Target {
        Target { database: name.to_owned(), ..self.clone() }
    }

    /// From the password file: the first line that fits. A file that others may read is not used, and says so.
    pub fn password_from_file(&self, endpoint: &Endpoint) -> Result<Option<String>, String> {
        let Some(file) = &self.passfile else { return Ok(None) };
        let Ok(metadata) = fs::metadata(file) else { return Ok(None) };
        if metadata.mode() & 0o077 != 0 {
            return Err(format!(
                "password file \"{}\" has group or world access; permissions should be u=rw (0600) or less",
                file.display()
            ));
        }
        let text = fs::read_to_string(file)
            .map_err(|error| format!("password file \"{}\": {error}", file.display()))?;
        let host = match &endpoint.host {
            Host::Unix(_) => "localhost",
            Host::Tcp { name, .. } => name,
        };
        let wanted = [host, &endpoint.port.to_string(), &self.database, &self.user];
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let fields = pgpass_fields(line);
            if let [_, _, _, _, password] = fields.as_slice()
                && fields.iter().zip(wanted).all(|(field, wanted)| field == "*" || field == wanted)
            {
                return Ok(Some(password.clone()));
            }
        }
        Ok(None)
    }
}

/// Five fields by colons; a backslash makes the next character plain, and the password keeps its own colons escaped.
fn pgpass_fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut escaped = false;
    for character in line.chars() {
        match character {
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            ':' if !escaped && fields.len() < 5 => fields.push(String::new()),
            _ => {
                if let Some(field) = fields.last_mut() {
                    field.push(character);
                }
            }
        }
        escaped = false;
    }
    fields
}

/// Unknown names, values outside their list, and what must not be ignored.
fn check(name: &str, value: &str) -> Result<(), String> {
    if let Some((_, instead)) = UNSUPPORTED.iter().find(|(known, _)| *known == name) {
        return Err(format!("connection option \"{name}\" is not supported; use {instead}"));
    }
    let allowed: &[&str] = match name {
        "sslmode" => &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"],
        "sslnegotiation" => &["postgres", "direct"],
        "channel_binding" => &["disable", "prefer", "require"],
        "target_session_attrs" => &["any", "read-write", "read-only", "primary", "standby", "prefer-standby"],
        _ => &[],
    };
    if !allowed.is_empty() && !value.is_empty() && !allowed.contains(&value) {
        return Err(format!("invalid {name} value: \"{value}\"; it is one of {}", allowed.join(", ")));
    }
    if name == "sslrootcert" && value == "system" {
        return Err("sslrootcert=system is not supported; name a file with the root certificates".to_owned());
    }
    let known = PARAMETERS.iter().map(|(keyword, _)| *keyword).chain(WITHOUT_EFFECT.iter().copied());
    if known.clone().any(|known| known == name) {
        return Ok(());
    }
    let nearest = known.min_by_key(|known| strsim::damerau_levenshtein(known, name)).unwrap_or("host");
    Err(format!("invalid connection option \"{name}\"; did you mean \"{nearest}\"?"))
}

/// `postgresql://[user[:password]@][host][:port][,host..][/dbname][?name=value[&..]]`
fn url(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut given = BTreeMap::new();
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, query),
        None => (rest, ""),
    };
    // A slash inside brackets does not occur; one in a percent-encoded socket directory is %2F.
    let (authority, database) = match rest.split_once('/') {
        Some((authority, database)) => (authority, database),
        None => (rest, ""),
    };
    let (login, hosts) = match authority.rsplit_once('@') {
        Some((login, hosts)) => (login, hosts),
        None => ("", authority),
    };
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (login, None),
    };
    if !user.is_empty() {
        given.insert("user".to_owned(), percent(user)?);
    }
    if let Some(password) = password {
        given.insert("password".to_owned(), percent(password)?);
    }
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',').filter(|_| !hosts.is_empty()) {
        let (name, port) = match host.strip_prefix('[') {
            Some(rest) => {
                let (name, after) = rest
                    .split_once(']')
                    .ok_or_else(|| format!("end of string reached when looking for matching \"]\" in IPv6 host address in URI: \"{text}\""))?;
                match after.strip_prefix(':') {
                    Some(port) => (name, port),
                    None if after.is_empty() => (name, ""),
                    None => {
                        return Err(format!(
                            "unexpected text \"{after}\" after the IPv6 host address in URI: \"{text}\""
                        ));
                    }
                }
            }
            None => host.split_once(':').unwrap_or((host, "")),
        };
        names.push(percent(name)?);
        ports.push(percent(port)?);
    }
    if names.iter().any(|name| !name.is_empty()) {
        given.insert("host".to_owned(), names.join(","));
    }
    if ports.iter().any(|port| !port.is_empty()) {
        given.insert("port".to_owned(), ports.join(","));
    }
    if !database.is_empty() {
        given.insert("dbname".to_owned(), percent(database)?);
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| format!("missing key/value separator \"=\" in URI query parameter: \"{pair}\""))?;
        let (name, value) = (percent(name)?, percent(value)?);
        match (name.as_str(), value.as_str()) {
            // JDBC's spelling.
            ("ssl", "true") => given.insert("sslmode".to_owned(), "require".to_owned()),
            _ => given.insert(name, value),
        };
    }
    Ok(given)
}

fn percent(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        match (digit(rest.next()), digit(rest.next())) {
            (Some(high), Some(low)) if (high, low) != (0, 0) => bytes.push((high * 16 + low) as u8),
            _ => return Err(format!("invalid percent-encoded token: \"{text}\"")),
        }
    }
    String::from_utf8(bytes).map_err(|_| format!("\"{text}\" is not UTF-8 after decoding"))
}

/// `name = value name='quoted \' value'`
fn keywords(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut given = BTreeMap::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest
            .split_once('=')
            .ok_or_else(|| format!("missing \"=\" after \"{}\" in connection info string", rest.trim()))?;
        let name = name.trim();
        if name.contains(char::is_whitespace) {
            let first = name.split_whitespace().next().unwrap_or_default();
            return Err(format!("missing \"=\" after \"{first}\" in connection info string"));
        }
        let after = after.trim_start();
        let quoted = after.starts_with('\'');
        let mut value = String::new();
        let mut characters = after.char_indices().skip(usize::from(quoted));
        let mut end = after.len();
        let mut closed = !quoted;
        while let Some((place, character)) = characters.next() {
            match character {
                '\\' => value.extend(characters.next().map(|(_, character)| character)),
                '\'' if quoted => {
                    end = place + 1;
                    closed = true;
                    break;
                }
                space if !quoted && space.is_whitespace() => {
                    end = place;
                    break;
                }
                other => value.push(other),
            }
        }
        if !closed {
            return Err("unterminated quoted string in connection info string".to_owned());
        }
        given.insert(name.to_owned(), value);
        rest = after[end..].trim_start();
    }
    Ok(given)
}

/// A section of the service file.
fn service_file(
    service: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<(String, String)>, String> {
    let candidates = [
        variable("PGSERVICEFILE").map(PathBuf::from),
        variable("HOME").map(|home| Path::new(&home).join(".pg_service.conf")),
        variable("PGSYSCONFDIR").map(|folder| Path::new(&folder).join("pg_service.conf")),
    ];
    for file in candidates.into_iter().flatten() {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let mut found = None;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                if found.is_some() {
                    break;
                }
                if name == service {
                    found = Some(Vec::new());
                }
            } else if let Some(values) = &mut found {
                let (name, value) = line.split_once('=').ok_or_else(|| {
                    format!("syntax error in service file \"{}\", line {}", file.display(), number + 1)
                })?;
                values.push((name.trim().to_owned(), value.trim().to_owned()));
            }
        }
        if let Some(values) = found {
            return Ok(values);
        }
    }
    Err(format!("definition of service \"{service}\" not found"))
}

/// The socket in a data directory: with a port, that one, else the first there is.
fn local_socket(data_dir: &Path, port: Option<&str>) -> Option<Endpoint> {
    let directory = std::path::absolute(data_dir).ok()?;
    let mut ports: Vec<u16> = fs::read_dir(&directory)
        .ok()?
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()))
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix(".s.PGSQL.")?.parse().ok())
        .collect();
    ports.sort_unstable();
    let found = match port {
        Some(port) => ports.into_iter().find(|found| port == found.to_string())?,
        None => ports.into_iter().next()?,
    };
    Some(Endpoint { host: Host::Unix(directory), port: found })
}

fn endpoints(
    host: Option<String>,
    address: Option<String>,
    port: Option<String>,
    local: Option<&Endpoint>,
) -> Result<Vec<Endpoint>, String> {
    let list = |text: &Option<String>| -> Vec<String> {
        text.as_deref()
            .map(|text| text.split(',').map(str::trim).map(str::to_owned).collect())
            .unwrap_or_default()
    };
    let (hosts, addresses, ports) = (list(&host), list(&address), list(&port));
    let count = hosts.len().max(addresses.len());
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return Err(format!(
            "could not match {} host names to {} hostaddr values",
            hosts.len(),
            addresses.len()
        ));
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(format!("could not match {} port numbers to {count} hosts", ports.len()));
    }
    let port_of = |place: usize| -> Result<u16, String> {
        match ports.get(place).or(ports.first()).filter(|port| !port.is_empty()) {
            None => Ok(5432),
            Some(text) => text
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| format!("invalid port number: \"{text}\"")),
        }
    };
    if count == 0 {
        return Ok(vec![match local {
            Some(socket) => socket.clone(),
            None => Endpoint {
                host: Host::Tcp { address: "127.0.0.1".to_owned(), name: "localhost".to_owned() },
                port: port_of(0)?,
            },
        }]);
    }
    (0..count)
        .map(|place| {
            let name = hosts.get(place).filter(|name| !name.is_empty());
            let address = addresses.get(place).filter(|address| !address.is_empty());
            let host = match (name, address) {
                (Some(name), None) if name.starts_with('/') => Host::Unix(PathBuf::from(name)),
                (Some(name), None) => Host::Tcp { address: name.clone(), name: name.clone() },
                (Some(name), Some(address)) => Host::Tcp { address: address.clone(), name: name.clone() },
                (None, Some(address)) => Host::Tcp { address: address.clone(), name: address.clone() },
                (None, None) => Host::Tcp { address: "localhost".to_owned(), name: "localhost".to_owned() },
            };
            Ok(Endpoint { host, port: port_of(place)? })
        })
        .collect()
}

fn operating_system_user(variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let id = rustix::process::geteuid().as_raw().to_string();
    let from_file = fs::read_to_string("/etc/passwd").ok().and_then(|text| {
        let line = text.lines().find(|line| line.split(':').nth(2) == Some(&id))?;
        line.split(':').next().map(str::to_owned)
    });
    from_file.or_else(|| variable("USER")).or_else(|| variable("LOGNAME"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: Option<&str>, variables: &[(&str, &str)]) -> Result<Target, String> {
        let look = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Target::resolve(text, &Surroundings { variable: &look, data_dir: PathBuf::from("/nowhere") })
    }

    fn tcp(name: &str, port: u16) -> Endpoint {
        Endpoint { host: Host::Tcp { address: name.to_owned(), name: name.to_owned() }, port }
    }

    #[test]
    fn urls_and_keywords_mean_the_same() {
        for text in [
            "postgresql://al%40x:p%3Aq@db.example:6000/my%20shop?sslmode=require&connect_timeout=3",
            "host=db.example port=6000 user=al@x password='p:q' dbname='my shop' sslmode=require connect_timeout=3",
            "host = db.example port = 6000 user=al@x password=p:q dbname=my\\ shop sslmode=require connect_timeout=3",
        ] {
            let target = resolve(Some(text), &[("PGUSER", "other"), ("PGPORT", "1")]).expect(text);
            assert_eq!(target.endpoints, [tcp("db.example", 6000)]);
            assert_eq!((target.user.as_str(), target.database.as_str()), ("al@x", "my shop"));
            assert_eq!(target.password.as_deref(), Some("p:q"));
            assert_eq!(
                (target.ssl, target.connect_timeout),
                (SslMode::Require, Some(Duration::from_secs(3)))
            );
        }
        let target =
            resolve(Some("postgres://[::1]:7,b,/x?target_session_attrs=read-write"), &[("PGUSER", "u")])
                .expect("valid");
        assert_eq!(target.endpoints, [tcp("::1", 7), tcp("b", 5432), tcp("localhost", 5432)]);
        assert_eq!(target.session, SessionAttributes::ReadWrite);
        let target = resolve(Some("postgresql://u@%2Frun%2Fpg/x"), &[]).expect("valid");
        assert_eq!(target.endpoints[0].host, Host::Unix(PathBuf::from("/run/pg")));
        assert_eq!(
            resolve(Some("host=h hostaddr=10.0.0.1 user=u"), &[]).expect("valid").endpoints[0].host,
            Host::Tcp { address: "10.0.0.1".to_owned(), name: "h".to_owned() }
        );
    }

    #[test]
    fn the_environment_and_then_the_local_server() {
        let target = resolve(None, &[]).expect("valid");
        assert_eq!((target.user.as_str(), target.database.as_str()), ("postgres", "postgres"));
        assert_eq!(target.endpoints[0].shown(), "127.0.0.1:5432");
        let target = resolve(
            Some("shop"),
            &[
                ("PGHOST", "/tmp"),
                ("PGPORT", "5433"),
                ("PGUSER", "al"),
                ("PGSSLMODE", "verify-full"),
                ("PGTZ", "UTC"),
            ],
        )
        .expect("valid");
        assert_eq!(target.endpoints[0].shown(), "/tmp/.s.PGSQL.5433");
        assert_eq!((target.user.as_str(), target.database.as_str()), ("al", "shop"));
        assert_eq!(target.ssl, SslMode::VerifyFull);
        assert!(target.parameters.contains(&("TimeZone".to_owned(), "UTC".to_owned())));
        let folder = tempfile::tempdir().expect("a directory");
        let services = folder.path().join("services");
        fs::write(&services, "# mine\n[one]\nhost=h1\n[two]\nhost=h2\nport=7\nuser=s\n").expect("written");
        let services = services.to_str().expect("utf-8");
        let target = resolve(None, &[("PGSERVICE", "two"), ("PGSERVICEFILE", services), ("PGPORT", "9")])
            .expect("valid");
        assert_eq!((target.endpoints[0].shown().as_str(), target.user.as_str()), ("h2:7", "s"));
        assert!(resolve(Some("service=three"), &[("PGSERVICEFILE", services)]).is_err());
    }

    #[test]
    fn wrong_strings_say_what_is_wrong() {
        for (text, part) in [
            ("postgresql://h/x?sslmod=require", "did you mean \"sslmode\""),
            ("host=h sslmode=on", "disable, allow, prefer"),
            ("host=h sslcert=x", "not supported"),
            ("host=h port=x user=u", "invalid port number"),
            ("host=a,b port=1,2,3 user=u", "could not match 3 port numbers to 2 hosts"),
            ("host=h user='x", "unterminated"),
            ("host h=x", "missing \"=\" after \"host\""),
            ("postgresql://h/%zz", "percent-encoded"),
            ("postgresql://[::1/x", "\"]\""),
        ] {
            let error = resolve(Some(text), &[]).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn password_files() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("pgpass");
        fs::write(&file, "# c\nh:5432:*:al:no\\:t:this\n*:*:shop:al:s\\:e:c\\\\ret\n").expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("chmod");
        let path = file.to_str().expect("utf-8");
        let target = resolve(Some("host=g user=al dbname=shop"), &[("PGPASSFILE", path)]).expect("valid");
        let endpoint = target.endpoints[0].clone();
        assert_eq!(target.password_from_file(&endpoint), Ok(Some("s:e:c\\ret".to_owned())));
        assert_eq!(target.database("other").password_from_file(&endpoint), Ok(None));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(target.password_from_file(&endpoint).is_err_and(|error| error.contains("0600")));
    }
}
