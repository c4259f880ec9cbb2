//! Conversations with a real server over real sockets, byte by byte; the database behind it is a small one made
//! for the purpose (`database.rs`).

mod client;
mod database;

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use client::*;
use database::{PASSWORD, Seen, TestDatabase};
use postgres_protocol::authentication::sasl::ChannelBinding;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use value::SqlState;
use wire::{Handle, Limits, Metrics, Options, Rule, serve, tls};

struct Server {
    handle: Handle,
    address: SocketAddr,
    seen: Arc<Seen>,
    directory: tempfile::TempDir,
}

async fn server_with(change: impl FnOnce(&mut Options)) -> Server {
    let directory = tempfile::tempdir().expect("directory");
    let mut options = Options {
        listen: vec!["127.0.0.1:0".parse().expect("address")],
        unix_directory: Some(directory.path().to_path_buf()),
        tls: Some(tls::ensure_certificate(directory.path()).expect("certificate")),
        ..Options::default()
    };
    change(&mut options);
    let database = TestDatabase::default();
    let seen = database.seen.clone();
    let handle = serve(options, Arc::new(database)).await.expect("starts");
    let address = handle.address().expect("listens");
    Server { handle, address, seen, directory }
}

async fn server() -> Server {
    server_with(|_| {}).await
}

/// Waits until `done`, for effects that another task brings about.
async fn eventually(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const GREETING: [&str; 4] = ["S server_version=15.0", "S client_encoding=UTF8", "K", "Z I"];

#[tokio::test(flavor = "multi_thread")]
async fn login() {
    let server = server().await;
    let mut client = Client::connect(server.address).await;
    let lines = client.log_in("alice", PASSWORD).await;
    assert_eq!(lines[..4], ["R 10 SCRAM-SHA-256", "R 11", "R 12", "R 0"]);
    assert_eq!(lines[4..], GREETING);
    assert_eq!(client.key.len(), 8);

    // Every way to fail a proof looks the same, and none says whether the role exists.
    for (role, password) in [("alice", "wrong"), ("mallory", "x"), ("nopassword", ""), ("expired", PASSWORD)]
    {
        let lines = Client::connect(server.address).await.log_in(role, password).await;
        let expected = format!("E FATAL 28P01 password authentication failed for user \"{role}\"");
        assert_eq!(lines, ["R 10 SCRAM-SHA-256", "R 11", &expected, "end"]);
    }
    assert_eq!(server.seen.failed_logins.lock().expect("lock").len(), 4);
    let lines = Client::connect(server.address).await.log_in("group", PASSWORD).await;
    assert!(
        lines.contains(&"E FATAL 28000 role \"group\" is not permitted to log in".to_string()),
        "{lines:?}"
    );

    // Salts of unknown roles do not change, and are as long as real ones.
    let mut firsts = Vec::new();
    for role in ["mallory", "mallory", "alice", "alice"] {
        let mut client = Client::connect(server.address).await;
        client.send(&[startup(VERSION_3_0, &[("user", role)])]).await;
        client.receive().await.expect("mechanisms");
        client.send(&[message(b'p', b"SCRAM-SHA-256\0\0\0\0\x0an,,n=,r=ab")]).await;
        let (_, body) = client.receive().await.expect("server first");
        let text = String::from_utf8_lossy(&body[4..]).into_owned();
        assert!(text.starts_with("r=ab") && text.ends_with(",i=4096"), "{text}");
        firsts.push((body.len(), text.split_once(",s=").expect("salt").1.to_string()));
    }
    assert_eq!(firsts[0], firsts[1]);
    assert_eq!(firsts[2], firsts[3]);
    assert_eq!(firsts[0].0, firsts[2].0);

    // What the session is told.
    let startups = server.seen.startups.lock().expect("lock").clone();
    assert_eq!((startups[0].user.as_str(), startups[0].database.as_str()), ("alice", "db"));

    // Refused before or after the proof, by the packet alone. (packet, first line)
    let with = |parameters: &[(&str, &str)]| startup(VERSION_3_0, parameters);
    for (packet, expected) in [
        (with(&[]), "E FATAL 28000 no PostgreSQL user name specified in startup packet"),
        (
            startup(2 << 16, &[]),
            "E FATAL 0A000 unsupported frontend protocol 2.0: server supports 3.0 to 3.2",
        ),
        (
            with(&[("user", "a"), ("replication", "database")]),
            "E FATAL 0A000 a replication connection is not supported",
        ),
        (
            vec![0, 0, 0, 9, 0, 3, 0, 0, b'u'],
            "E FATAL 08P01 invalid startup packet layout: expected terminator as last byte",
        ),
    ] {
        assert_eq!(Client::connect(server.address).await.ask(&[packet]).await, [expected, "end"]);
    }
    let mut client = Client::connect(server.address).await;
    client.send(&[with(&[("user", "alice"), ("database", "missing")])]).await;
    let lines = client.scram(PASSWORD, ChannelBinding::unsupported(), "SCRAM-SHA-256").await;
    assert_eq!(lines[3..], ["R 0", "E FATAL 3D000 database \"missing\" does not exist", "end"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn protocol_versions() {
    let server = server().await;
    for (version, options, negotiated, key_length) in [
        (VERSION_3_0, None, None, 8),
        (VERSION_3_0 + 2, None, None, 8),
        (VERSION_3_0 + 1, None, Some("v 30000 "), 8),
        (VERSION_3_0 + 9999, None, Some("v 30002 "), 8),
        (VERSION_3_0, Some("_pq_.test"), Some("v 30000 _pq_.test"), 8),
    ] {
        let mut client = Client::connect(server.address).await;
        let mut parameters = vec![("user", "alice")];
        parameters.extend(options.map(|name| (name, "1")));
        client.send(&[startup(version, &parameters)]).await;
        let lines = client.scram(PASSWORD, ChannelBinding::unsupported(), "SCRAM-SHA-256").await;
        assert_eq!(lines.first().filter(|line| line.starts_with('v')).map(String::as_str), negotiated);
        assert_eq!(lines.last().map(String::as_str), Some("Z I"), "{lines:?}");
        assert_eq!(client.key.len(), key_length);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn encryption() {
    let server = server().await;
    // Asked for with SSLRequest; ALPN is optional there. A refused GSSENCRequest may come first.
    for (gss, protocol) in [(false, None), (true, Some("postgresql"))] {
        let mut stream = TcpStream::connect(server.address).await.expect("connects");
        let mut answer = [0];
        if gss {
            stream.write_all(&GSS_REQUEST).await.expect("writes");
            stream.read_exact(&mut answer).await.expect("answers");
            assert_eq!(&answer, b"N");
        }
        stream.write_all(&SSL_REQUEST).await.expect("writes");
        stream.read_exact(&mut answer).await.expect("answers");
        assert_eq!(&answer, b"S");
        let mut client = Client::over(encrypt(stream, protocol).await.expect("handshake"));
        let lines = client.log_in("alice", PASSWORD).await;
        assert_eq!(lines[0], "R 10 SCRAM-SHA-256-PLUS SCRAM-SHA-256");
        assert_eq!(lines[4..], GREETING);
        assert_eq!(client.ask(&[query("select 5")]).await, ["T n:23:0", "D 5", "C SELECT 1", "Z I"]);
    }

    // Direct TLS needs the protocol's name; channel binding holds for this certificate only.
    let direct = async |protocol| {
        let stream = TcpStream::connect(server.address).await.expect("connects");
        encrypt(stream, protocol).await.map(Client::over)
    };
    let mut client = direct(Some("postgresql")).await.expect("handshake");
    let binding = ChannelBinding::tls_server_end_point(end_point(&client.stream));
    client.send(&[startup(VERSION_3_0, &[("user", "alice")])]).await;
    let lines = client.scram(PASSWORD, binding, "SCRAM-SHA-256-PLUS").await;
    assert_eq!(lines[3..], ["R 0", GREETING[0], GREETING[1], GREETING[2], GREETING[3]]);

    let lines = direct(None).await.expect("handshake").answer().await;
    assert_eq!(
        lines,
        [
            "E FATAL 08P01 received direct SSL connection request without ALPN protocol negotiation extension",
            "end"
        ]
    );
    assert!(direct(Some("http/1.1")).await.is_err());

    // (binding, mechanism, what becomes of it)
    for (binding, mechanism, expected) in [
        (
            ChannelBinding::tls_server_end_point(vec![0; 32]),
            "SCRAM-SHA-256-PLUS",
            "E FATAL 08P01 malformed SCRAM message",
        ),
        (
            ChannelBinding::unrequested(),
            "SCRAM-SHA-256",
            "E FATAL 28000 SCRAM channel binding negotiation error",
        ),
        (ChannelBinding::unsupported(), "SCRAM-SHA-256-PLUS", "E FATAL 08P01 malformed SCRAM message"),
        (
            ChannelBinding::tls_server_end_point(vec![0; 32]),
            "SCRAM-SHA-256",
            "E FATAL 08P01 malformed SCRAM message",
        ),
        (
            ChannelBinding::unsupported(),
            "SCRAM-SHA-1",
            "E FATAL 08P01 client selected an invalid SASL authentication mechanism",
        ),
    ] {
        let mut client = direct(Some("postgresql")).await.expect("handshake");
        client.send(&[startup(VERSION_3_0, &[("user", "alice")])]).await;
        let lines = client.scram(PASSWORD, binding, mechanism).await;
        assert_eq!(lines[lines.len() - 2..], [expected, "end"], "{mechanism}");
    }

    // Bytes that a man in the middle puts behind the request would be read as if they had come encrypted.
    let mut client = Client::connect(server.address).await;
    let packet = startup(VERSION_3_0, &[("user", "alice")]);
    let lines = client.ask(&[SSL_REQUEST.to_vec(), packet]).await;
    assert_eq!(lines, ["E FATAL 08P01 received unencrypted data after SSL request", "end"]);

    // A second request inside TLS is no protocol version.
    let mut client = direct(Some("postgresql")).await.expect("handshake");
    let lines = client.ask(&[SSL_REQUEST.to_vec()]).await;
    assert!(lines[0].starts_with("E FATAL 0A000 unsupported frontend protocol 1234.5679"), "{lines:?}");

    // A new certificate is used from the next connection on.
    let old = end_point(&direct(Some("postgresql")).await.expect("handshake").stream);
    for name in ["server.crt", "server.key"] {
        std::fs::remove_file(server.directory.path().join(name)).expect("removed");
    }
    tls::ensure_certificate(server.directory.path()).expect("made");
    server.handle.reload_tls().expect("reloads");
    assert_ne!(end_point(&direct(Some("postgresql")).await.expect("handshake").stream), old);

    // Without a certificate.
    let server = server_with(|options| options.tls = None).await;
    let mut stream = TcpStream::connect(server.address).await.expect("connects");
    stream.write_all(&SSL_REQUEST).await.expect("writes");
    let mut answer = [0];
    stream.read_exact(&mut answer).await.expect("answers");
    assert_eq!(&answer, b"N");
    let mut client = Client::over(stream);
    assert_eq!(client.log_in("alice", PASSWORD).await[4..], GREETING);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_bytes_before_login() {
    let server = server().await;
    let packet = startup(VERSION_3_0, &[("user", "alice")]);
    let announced = |kind: u8, length: u32| [vec![kind], length.to_be_bytes().to_vec()].concat();
    let long = "E FATAL 08P01 invalid message length";
    let kind = |kind: u8| format!("E FATAL 08P01 expected password response, got message type {kind}");
    // (bytes, lines after the offer of mechanisms)
    for (bytes, expected) in [
        (announced(b'p', 1 << 30), long.to_string()),
        (announced(b'p', (64 << 10) + 1), long.to_string()),
        (announced(b'p', 3), long.to_string()),
        (announced(b'p', u32::MAX), long.to_string()),
        (announced(b'Q', 1 << 30), kind(b'Q')),
        (query("select 1"), kind(b'Q')),
        (message(b'd', b"x"), kind(b'd')),
        (
            message(b'p', b"SCRAM-SHA-256\0\x7f\xff\xff\xff"),
            "E FATAL 08P01 insufficient data left in message".to_string(),
        ),
        (
            message(b'p', b"SCRAM-SHA-256\0\xff\xff\xff\xff"),
            "E FATAL 08P01 malformed SCRAM message".to_string(),
        ),
        (message(b'p', b"SCRAM-SHA-256\0\0\0\0\x03n,,"), "E FATAL 08P01 malformed SCRAM message".to_string()),
        (message(b'p', b"SCRAM-SHA-256"), "E FATAL 08P01 invalid string in message".to_string()),
        (message(b'p', b""), "E FATAL 08P01 invalid string in message".to_string()),
    ] {
        let start = Instant::now();
        let mut client = Client::connect(server.address).await;
        let lines = client.ask(&[packet.clone(), bytes]).await;
        assert_eq!(lines, ["R 10 SCRAM-SHA-256", &expected, "end"]);
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    let startup_length = "E FATAL 08P01 invalid length of startup packet";
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0, 0x27, 0x11], &[0, 0, 0, 7], &[0xff; 4], &[0; 4]] {
        assert_eq!(
            Client::connect(server.address).await.ask(&[bytes.to_vec()]).await,
            [startup_length, "end"]
        );
    }
    // A cancel request with a key too short, one nobody has, and a client that says nothing at all.
    let mut client = Client::connect(server.address).await;
    let lines = client.ask(&[vec![0, 0, 0, 13, 4, 210, 22, 46, 0, 0, 0, 1, 9]]).await;
    assert_eq!(lines, ["E FATAL 08P01 invalid length of query cancel packet", "end"]);
    let mut client = Client::connect(server.address).await;
    assert_eq!(client.ask(&[vec![0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 9, 9, 9, 9]]).await, ["end"]);
    drop(Client::connect(server.address).await);
    Client::logged_in(server.address).await;

    let server = server_with(|options| options.authentication_timeout = Duration::from_millis(100)).await;
    let lines = Client::connect(server.address).await.answer().await;
    assert_eq!(lines, ["E FATAL 57014 canceling authentication due to timeout", "end"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_bytes_after_login() {
    let limits = Limits { message: 1 << 20, ..Limits::default() };
    let server = server_with(|options| options.limits = limits).await;
    for bytes in [
        [&b"Q"[..], &[0x40, 0, 0, 0]].concat(),
        [&b"B"[..], &[0, 0x10, 0, 1]].concat(),
        [&b"S"[..], &[0, 1, 0, 1]].concat(),
        [&b"Q"[..], &[0, 0, 0, 3]].concat(),
        [&b"!"[..], &[0, 0, 0, 4]].concat(),
        message(b'p', b"again"),
    ] {
        let mut client = Client::logged_in(server.address).await;
        let lines = client.ask(&[bytes]).await;
        assert!(lines[0].starts_with("E FATAL 08P01 invalid "), "{lines:?}");
        assert_eq!(lines[1..], ["end"]);
    }
    // Whole frames with a lie inside: an ordinary error, and the session knows of it.
    let mut client = Client::logged_in(server.address).await;
    for (parts, expected) in [
        (vec![message(b'Q', b"select 1")], vec!["E ERROR 08P01 invalid string in message", "Z I"]),
        (
            vec![message(b'Q', b"\xc3\x28\0")],
            vec!["E ERROR 22021 invalid byte sequence for encoding \"UTF8\": 0xc3", "Z I"],
        ),
        (
            vec![message(b'B', b"\0\0\0\0\xff\xff"), execute("", 0), sync()],
            vec!["E ERROR 08P01 insufficient data left in message", "Z I"],
        ),
        (vec![message(b'S', b"x")], vec!["E ERROR 08P01 invalid message format", "Z I"]),
        (
            vec![message(b'F', b"\0\0\0\x01")],
            vec!["E ERROR 0A000 the function call message is not supported", "Z I"],
        ),
        (vec![query("select 1")], vec!["T n:23:0", "D 1", "C SELECT 1", "Z I"]),
    ] {
        assert_eq!(client.ask(&parts).await, expected);
    }
    assert_eq!(server.seen.failures_noted.load(Ordering::SeqCst), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations() {
    let server = server().await;
    let mut client = Client::logged_in(server.address).await;
    let duplicate = "E ERROR 23505 duplicate key value violates unique constraint \"k\"";
    let row = |row: u32| format!("D {row}|row {row}");
    let table: Vec<(Vec<Vec<u8>>, Vec<String>)> = [
        (vec![query("select 7")], vec!["T n:23:0", "D 7", "C SELECT 1", "Z I"]),
        (vec![query("")], vec!["I", "Z I"]),
        (
            vec![query("begin; select 1; error; select 2")],
            vec!["C BEGIN", "T n:23:0", "D 1", "C SELECT 1", duplicate, "Z E"],
        ),
        (vec![query("commit")], vec!["C COMMIT", "Z I"]),
        // The last tag waits for the commit.
        (
            vec![query("select 1; failcommit")],
            vec!["T n:23:0", "D 1", "C SELECT 1", "E ERROR 40001 could not serialize access", "Z I"],
        ),
        (vec![query("notice a"), query("set b")], vec!["N NOTICE 00000 notice a", "C DO", "Z I"]),
        (vec![], vec!["C SET", "S application_name=set b", "Z I"]),
        (vec![query("nothing 2")], vec!["T", "D ", "D ", "C SELECT 2", "Z I"]),
        (
            vec![
                parse("s", "select $1"),
                describe('S', "s"),
                bind("p", "s", &[Some("hello")]),
                describe('P', "p"),
                execute("p", 0),
                sync(),
            ],
            vec!["1", "t 25", "T echo:25:0", "2", "T echo:25:0", "D hello", "C SELECT 1", "Z I"],
        ),
        (vec![bind("", "s", &[None]), execute("", 0), sync()], vec!["2", "D NULL", "C SELECT 1", "Z I"]),
        // An error: all up to Sync is skipped, then it goes on.
        (
            vec![
                parse("", "select 1"),
                bind("", "none", &[]),
                execute("", 0),
                parse("", "bad"),
                sync(),
                query("select 2"),
            ],
            vec!["1", "E ERROR 26000 prepared statement \"none\" does not exist", "Z I"],
        ),
        (vec![], vec!["T n:23:0", "D 2", "C SELECT 1", "Z I"]),
        (vec![parse("", "bad"), query("select 1"), sync()], vec!["E ERROR 42601 syntax error", "Z I"]),
        (vec![execute("gone", 0), sync()], vec!["E ERROR 34000 portal \"gone\" does not exist", "Z I"]),
        // Row limits; the portal goes on where it stopped.
        (
            vec![
                parse("", "rows 5"),
                bind("c", "", &[]),
                execute("c", 2),
                execute("c", 2),
                execute("c", 2),
                sync(),
            ],
            vec!["1", "2", &row(0), &row(1), "s", &row(2), &row(3), "s", &row(4), "C SELECT 5", "Z I"],
        ),
        (
            vec![parse("", ""), bind("", "", &[]), describe('P', ""), execute("", 0), sync()],
            vec!["1", "2", "n", "I", "Z I"],
        ),
        (
            vec![message(b'C', b"Ss\0"), message(b'C', b"Pzz\0"), describe('S', "s"), sync()],
            vec!["3", "3", "t ", "n", "Z I"],
        ),
        // Without a Sync, Flush makes what is there come at once; the rest follows.
        (vec![parse("", "select 3"), message(b'H', b""), sync()], vec!["1", "Z I"]),
        (
            vec![query("batch 4")],
            vec!["T i:23:0 t:25:0", &row(0), &row(1), &row(2), "D 3|NULL", "C SELECT 4", "Z I"],
        ),
        (
            vec![message(b'd', b"late copy data"), message(b'c', b""), query("select 4")],
            vec!["T n:23:0", "D 4", "C SELECT 1", "Z I"],
        ),
    ]
    .into_iter()
    .map(|(parts, lines)| (parts, lines.into_iter().map(str::to_string).collect()))
    .collect();
    for (parts, expected) in table {
        assert_eq!(client.ask(&parts).await, expected);
    }

    // Flush without anything after it.
    client.send(&[parse("", "select 3"), message(b'H', b"")]).await;
    assert_eq!(client.receive().await, Some((b'1', Vec::new())));
    assert_eq!(client.ask(&[sync()]).await, ["Z I"]);

    // All fields of an error, in PostgreSQL's order.
    client.send(&[query("error")]).await;
    let (_, body) = client.receive().await.expect("an error");
    let fields: Vec<u8> = body.split(|byte| *byte == 0).filter_map(|field| field.first().copied()).collect();
    assert_eq!(fields, b"SVCMDHPWstcn");
    assert!(String::from_utf8_lossy(&body).contains("P8\0"));
    client.answer().await;

    // Binary results.
    let mut body = b"\0s2\0\0\0\0\0".to_vec();
    body.extend_from_slice(&[0, 1, 0, 1]);
    client.send(&[parse("s2", "batch 1"), message(b'B', &body), execute("", 0), sync()]).await;
    client.receive().await;
    client.receive().await;
    assert_eq!(
        client.receive().await,
        Some((b'D', [&[0, 2, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 5][..], b"row 0"].concat()))
    );
    assert_eq!(client.answer().await, ["C SELECT 1", "Z I"]);

    client.send(&[message(b'X', b"")]).await;
    assert_eq!(client.receive().await, None);
    eventually("the session is closed", || server.seen.open_sessions.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_write_for_a_pipelined_batch() {
    let server = server().await;
    let mut client = Client::logged_in(server.address).await;
    let one = [parse("", "select 1"), bind("", "", &[]), describe('P', ""), execute("", 0), sync()].concat();
    // ParseComplete, BindComplete, RowDescription, DataRow, CommandComplete, ReadyForQuery.
    let expected = 5 + 5 + 27 + 12 + 14 + 6;
    client.send(&[one.repeat(50)]).await;
    let mut whole = vec![0; 1 << 16];
    let count = client.stream.read(&mut whole).await.expect("an answer");
    assert_eq!(count, expected * 50, "the whole batch in one piece");

    // What is answered does not wait for a slow statement behind it.
    client.send(&[query("select 1"), query("sleep 3000")]).await;
    let start = Instant::now();
    assert_eq!(client.answer().await, ["T n:23:0", "D 1", "C SELECT 1", "Z I"]);
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(client.answer().await, ["C SLEEP", "Z I"]);
}

/// Opens a connection for the sake of a cancel request.
async fn cancel(address: SocketAddr, key: &[u8]) {
    let mut packet = vec![0, 0, 0, 8 + key.len() as u8, 4, 210, 22, 46];
    packet.extend_from_slice(key);
    assert_eq!(Client::connect(address).await.ask(&[packet]).await, ["end"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_and_backpressure() {
    let server = server().await;
    let mut client = Client::logged_in(server.address).await;
    let key = client.key.clone();
    let canceled = "E ERROR 57014 canceling statement due to user request";

    client.send(&[query("sleep 60000")]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut wrong = key.clone();
    wrong[7] ^= 1;
    cancel(server.address, &wrong).await;
    cancel(server.address, &key).await;
    assert_eq!(client.answer().await, [canceled, "Z I"]);

    // A client that does not read holds the statement up, not the memory; the cancel comes through all the same.
    client.send(&[query("rows 2000000000")]).await;
    let made = || server.seen.rows_made.load(Ordering::SeqCst);
    eventually("rows flow", || made() > 1000).await;
    let mut before = 0;
    while made() != before {
        before = made();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(made() < 2_000_000, "{} rows for a client that reads none", made());
    cancel(server.address, &key).await;
    let mut last = None;
    while let Some((kind, body)) = client.receive().await {
        if kind == b'E' {
            last = Some(String::from_utf8_lossy(&body).into_owned());
        }
        if kind == b'Z' {
            break;
        }
    }
    assert!(last.expect("an error").contains("57014"));
    assert_eq!(client.ask(&[query("select 1")]).await.last().map(String::as_str), Some("Z I"));

    // Rows that are wider than the buffer.
    let lines = client.ask(&[query("wide 1000000")]).await;
    assert_eq!(lines.len(), 103);
    assert!(lines[1..101].iter().all(|line| line.len() == 1_000_002));
}

#[tokio::test(flavor = "multi_thread")]
async fn copying() {
    let server = server().await;
    let mut client = Client::logged_in(server.address).await;
    let data = |bytes: &[u8]| message(b'd', bytes);
    let done = || message(b'c', b"");
    assert_eq!(
        client.ask(&[query("copyout 3; select 1")]).await,
        ["H 0", "d 0", "d 1", "d 2", "c", "C COPY 3", "T n:23:0", "D 1", "C SELECT 1", "Z I"]
    );
    assert_eq!(
        client
            .ask(&[
                query("copyin; select 1"),
                data(b"1\ta\n2"),
                message(b'H', b""),
                message(b'S', b""),
                data(b"\tb\n"),
                done()
            ])
            .await,
        ["G 0", "C COPY 2", "T n:23:0", "D 1", "C SELECT 1", "Z I"]
    );
    assert_eq!(server.seen.copied.lock().expect("lock").as_slice(), b"1\ta\n2\tb\n");
    assert_eq!(
        client.ask(&[query("copyin"), data(b"3\tc\n"), message(b'f', b"no more\0")]).await,
        ["G 0", "E ERROR 57014 COPY from stdin failed: no more", "Z I"]
    );
    // The data behind an error is ignored, in both protocols.
    let extra = "E ERROR 22P04 extra data";
    assert_eq!(
        client.ask(&[query("copyin"), data(b"poison"), data(b"4\td\n"), done(), query("select 2")]).await,
        ["G 0", extra, "Z I"]
    );
    assert_eq!(client.answer().await, ["T n:23:0", "D 2", "C SELECT 1", "Z I"]);
    let copy = [parse("", "copyin"), bind("", "", &[]), execute("", 0)].concat();
    assert_eq!(
        client.ask(&[copy.clone(), data(b"poison"), data(b"x"), done(), sync()]).await,
        ["1", "2", "G 0", extra, "Z I"]
    );
    assert_eq!(
        client.ask(&[copy.clone(), data(b"5\te\n"), done(), sync()]).await,
        ["1", "2", "G 0", "C COPY 4", "Z I"]
    );
    // Another message in its midst.
    let lines = client.ask(&[query("copyin"), query("select 1")]).await;
    assert_eq!(lines, ["G 0", "E ERROR 08P01 unexpected message type 0x51 during COPY from stdin", "Z I"]);
    // The client vanishes.
    client.send(&[query("copyin"), data(b"6\tf\n")]).await;
    assert_eq!(client.receive().await.map(|message| message.0), Some(b'G'));
    drop(client);
    eventually("the session is closed", || server.seen.open_sessions.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_one_session() {
    let server = server().await;
    let mut bystander = Client::logged_in(server.address).await;
    for statement in ["panic", "fatal"] {
        let mut client = Client::logged_in(server.address).await;
        let lines = client.ask(&[query(&format!("select 1; {statement}"))]).await;
        assert_eq!(lines[..3], ["T n:23:0", "D 1", "C SELECT 1"]);
        let expected = match statement {
            "panic" => {
                "E FATAL XX000 the server failed while it carried out this statement; the session ends"
            }
            _ => "E FATAL 57P02 the end",
        };
        assert_eq!(lines[3..], [expected, "end"]);
    }
    assert_eq!(bystander.ask(&[query("select 1")]).await.len(), 4);
    assert_eq!(server.seen.open_sessions.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_while_idle() {
    let server = server().await;
    let mut client = Client::logged_in(server.address).await;
    assert_eq!(client.ask(&[query("remind")]).await, ["C DO", "Z I"]);
    let (kind, body) = client.receive().await.expect("a notice");
    assert!(kind == b'N' && String::from_utf8_lossy(&body).contains("a reminder"));
    assert_eq!(client.ask(&[query("expire")]).await, ["C DO", "Z I"]);
    assert_eq!(client.answer().await, ["E FATAL 25P03 idle for too long", "end"]);
}

/// Nonsense of every kind, before and after login: answered or refused, and never by a panic.
#[tokio::test(flavor = "multi_thread")]
async fn garbage() {
    let server =
        server_with(|options| options.rules = vec![Rule::parse("host all all all trust").expect("a rule")])
            .await;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 11) % below
    };
    let valid = [
        startup(VERSION_3_0, &[("user", "alice")]),
        query("select 1; rows 3"),
        parse("s", "select $1"),
        bind("p", "s", &[Some("x"), None]),
        describe('P', "p"),
        execute("p", 1),
        message(b'C', b"Ps\0"),
        query("copyin"),
        message(b'd', b"1\n"),
        message(b'f', b"no\0"),
        sync(),
    ]
    .concat();
    let login = startup(VERSION_3_0, &[("user", "alice")]).len();
    for round in 0..400 {
        let mut bytes = valid.clone();
        let first = if round % 4 == 0 { 0 } else { login };
        for _ in 0..=next(4) {
            let span = bytes.len().saturating_sub(first);
            if span == 0 {
                break;
            }
            let at = first + next(span as u64) as usize;
            match next(3) {
                0 => bytes[at] = next(256) as u8,
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, next(256) as u8),
            }
        }
        let mut client = Client::connect(server.address).await;
        // The server may have hung up before everything was sent.
        let _ = client.stream.write_all(&bytes).await;
        let _ = client.stream.shutdown().await;
        loop {
            let lines = client.answer().await;
            assert!(!lines.iter().any(|line| line.contains("XX000")), "{lines:?} for {bytes:?}");
            if lines.last().map(String::as_str) == Some("end") {
                break;
            }
        }
    }
    eventually("all sessions are closed", || server.seen.open_sessions.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_rules() {
    let server = server_with(|options| {
        options.max_connections = 3;
        options.reserved_connections = 1;
    })
    .await;
    let first = Client::logged_in(server.address).await;
    let _second = Client::logged_in(server.address).await;
    let lines = Client::connect(server.address).await.log_in("alice", PASSWORD).await;
    let reserved =
        "E FATAL 53300 remaining connection slots are reserved for non-replication superuser connections";
    assert_eq!(lines[lines.len() - 2..], [reserved, "end"]);
    let mut superuser = Client::connect(server.address).await;
    assert_eq!(superuser.log_in("root", PASSWORD).await.last().map(String::as_str), Some("Z I"));
    let lines = Client::connect(server.address).await.log_in("root", PASSWORD).await;
    assert_eq!(lines, ["E FATAL 53300 sorry, too many clients already", "end"]);
    drop((first, superuser));
    eventually("a slot is free", || server.seen.open_sessions.load(Ordering::SeqCst) == 1).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    Client::logged_in(server.address).await;

    let rules = ["hostssl all all all scram-sha-256", "host db root all trust", "host all eve all reject"];
    let server =
        server_with(|options| options.rules = rules.map(|line| Rule::parse(line).expect(line)).to_vec())
            .await;
    for (role, expected) in [
        ("root", "R 0"),
        (
            "alice",
            "E FATAL 28000 no pg_hba.conf entry for host \"127.0.0.1\", user \"alice\", database \"db\", no encryption",
        ),
        (
            "eve",
            "E FATAL 28000 pg_hba.conf rejects connection for host \"127.0.0.1\", user \"eve\", database \"db\", no encryption",
        ),
    ] {
        assert_eq!(Client::connect(server.address).await.log_in(role, "").await[0], expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown() {
    let server = server().await;
    let goodbye = ["E FATAL 57P01 terminating connection due to administrator command", "end"];
    let mut idle = Client::logged_in(server.address).await;
    let mut busy = Client::logged_in(server.address).await;
    let mut stuck = Client::logged_in(server.address).await;
    busy.send(&[query("sleep 300")]).await;
    stuck.send(&[query("sleep 600000")]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let start = Instant::now();
    let socket = server.handle.unix_path().expect("a socket").to_path_buf();
    let stopping = tokio::spawn(server.handle.stop(Duration::from_millis(1500)));
    assert_eq!(idle.answer().await, goodbye);
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(busy.answer().await, ["C SLEEP", "Z I"]);
    assert_eq!(busy.answer().await, goodbye);
    assert_eq!(stuck.answer().await, goodbye);
    stopping.await.expect("stops");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert_eq!(server.seen.open_sessions.load(Ordering::SeqCst), 0);
    assert!(TcpStream::connect(server.address).await.is_err());
    assert!(!socket.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn unix_socket() {
    let server = server().await;
    let path = server.handle.unix_path().expect("a socket").to_path_buf();
    assert_eq!(
        path.file_name().expect("a name").to_string_lossy(),
        format!(".s.PGSQL.{}", server.address.port())
    );
    let mut client = Client::over(tokio::net::UnixStream::connect(&path).await.expect("connects"));
    let lines = client.log_in("alice", PASSWORD).await;
    assert_eq!(lines[0], "R 10 SCRAM-SHA-256");
    assert_eq!(lines[4..], GREETING);

    // Two servers for one address or one socket: the second is told so.
    let second = |address: SocketAddr, directory: Option<&std::path::Path>| {
        let options = Options {
            listen: vec![address],
            unix_directory: directory.map(Into::into),
            ..Options::default()
        };
        serve(options, Arc::new(TestDatabase::default()))
    };
    let error = second(server.address, None).await.err().expect("refused");
    assert_eq!(error.state(), SqlState::OBJECT_IN_USE);
    // The same port on another loopback address gives the same socket name.
    let other: SocketAddr = format!("127.0.0.2:{}", server.address.port()).parse().expect("address");
    let error = second(other, Some(server.directory.path())).await.err().expect("refused");
    assert_eq!(error.state(), SqlState::OBJECT_IN_USE);
    assert!(error.message().starts_with("lock file"), "{error}");

    // A socket and a lock left behind by a crash hold nobody up.
    let (port, directory) = (server.address.port(), tempfile::tempdir().expect("directory"));
    let stale = directory.path().join(format!(".s.PGSQL.{port}"));
    drop(std::os::unix::net::UnixListener::bind(&stale).expect("binds"));
    std::fs::write(directory.path().join(format!(".s.PGSQL.{port}.lock")), "1\n").expect("writes");
    let third = second(other, Some(directory.path())).await.expect("takes over");
    tokio::net::UnixStream::connect(&stale).await.expect("connects");
    third.stop(Duration::ZERO).await;
    assert!(!stale.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn http() {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let server = server_with(|options| options.metrics = metrics).await;
    let ready = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asked = ready.clone();
    let options = wire::http::Options {
        listen: "127.0.0.1:0".parse().expect("address"),
        registry: Arc::new(registry),
        ready: Arc::new(move || {
            if asked.load(Ordering::SeqCst) { Ok(()) } else { Err("replaying the log".to_string()) }
        }),
    };
    let handle = wire::http::serve(options).await.expect("starts");
    let address = handle.address();
    let get = async |path: &str| {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        let accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("writes");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("reads");
        answer
    };
    let mut client = Client::logged_in(server.address).await;
    client.ask(&[query("select 1; set a")]).await;
    assert!(get("/livez").await.starts_with("HTTP/1.1 200"));
    let answer = get("/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("replaying the log"), "{answer}");
    ready.store(true, Ordering::SeqCst);
    assert!(get("/readyz").await.starts_with("HTTP/1.1 200"));
    let answer = get("/metrics").await;
    for line in [
        "application/openmetrics-text",
        "startdb_connections 1",
        "startdb_query_duration_seconds_count{type=\"select\"} 1",
        "startdb_query_duration_seconds_count{type=\"other\"} 1",
        "startdb_query_duration_seconds_count{type=\"ddl\"} 0",
        "# EOF",
    ] {
        assert!(answer.contains(line), "{line} is missing in {answer}");
    }
    assert!(get("/elsewhere").await.starts_with("HTTP/1.1 404"));
    handle.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
}

/// The real client, where it is installed: TLS with channel binding, the socket, a password that is wrong, COPY.
#[tokio::test(flavor = "multi_thread")]
async fn psql() {
    let server = server().await;
    let port = server.address.port();
    let psql = async |connection: String, password: &str, input: &str| {
        let mut command = tokio::process::Command::new("psql");
        command.args(["-X", "-A", "-t", "-q", &connection]).env("PGPASSWORD", password);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().ok()?;
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).await.expect("psql reads");
        drop(stdin);
        let output = child.wait_with_output().await.expect("psql ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some((text(&output.stdout), text(&output.stderr)))
    };
    let tcp = |options: &str| format!("host=127.0.0.1 port={port} user=alice dbname=db {options}");
    let Some((out, errors)) =
        psql(tcp("sslmode=require channel_binding=require"), PASSWORD, "select 42;\n\\conninfo\n").await
    else {
        eprintln!("psql is not installed: skipped");
        return;
    };
    assert!(out.contains("42\n") && out.contains("TLSv1.3"), "{out}{errors}");
    let socket = format!("host={} port={port} user=alice dbname=db", server.directory.path().display());
    let (out, errors) = psql(socket, PASSWORD, "rows 3;\nerror;\nnotice x;\n").await.expect("psql");
    assert_eq!(out, "0|row 0\n1|row 1\n2|row 2\n");
    assert!(errors.contains("duplicate key") && errors.contains("NOTICE:  notice x"), "{errors}");
    let (_, errors) = psql(tcp("sslmode=disable"), "wrong", "select 1;\n").await.expect("psql");
    assert!(errors.contains("password authentication failed for user \"alice\""), "{errors}");
    let (out, errors) = psql(tcp("sslmode=disable"), PASSWORD, "copyin;\n1\ta\n\\.\ncopyout 2;\nselect 9;\n")
        .await
        .expect("psql");
    assert_eq!(out, "0\n1\n9\n", "{errors}");
    // psql sends the line that ended the data along.
    assert_eq!(server.seen.copied.lock().expect("lock").as_slice(), b"1\ta\n\\.\n");
}

/// Between listening and [`Handle::open`] everybody is told to wait; a port that is only taken refuses.
#[tokio::test(flavor = "multi_thread")]
async fn starting() {
    let directory = tempfile::tempdir().expect("directory");
    let options = Options {
        tls: Some(tls::ensure_certificate(directory.path()).expect("certificate")),
        ..Options::default()
    };
    let bound = wire::bind(&["127.0.0.1:0".parse().expect("address")]).expect("a port");
    let address = bound.addresses()[0];
    assert!(TcpStream::connect(address).await.is_err());
    let handle = bound.listen(options).expect("listens");
    assert!(wire::bind(&[address]).is_err_and(|error| error.state() == SqlState::OBJECT_IN_USE));
    for role in ["alice", "mallory"] {
        let lines = Client::connect(address).await.log_in(role, PASSWORD).await;
        assert_eq!(lines, ["E FATAL 57P03 the database system is starting up", "end"], "{role}");
    }
    handle.open(Arc::new(TestDatabase::default()));
    let lines = Client::connect(address).await.log_in("alice", PASSWORD).await;
    assert_eq!(lines[4..], GREETING);
    handle.stop(Duration::from_secs(1)).await;
}
