//! systemd's sd_notify(3): one datagram to the socket that `NOTIFY_SOCKET` names says that the server is ready or stops.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Tells the service manager, if one listens. A failure is logged: a unit of Type=notify would wait in vain.
pub fn tell(state: &str) {
    let Ok(socket) = std::env::var("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&socket, state) {
        tracing::warn!(%error, socket, "the service manager could not be told {state}");
    }
}

fn send(socket: &str, state: &str) -> std::io::Result<()> {
    // "@" stands for the NUL byte of an abstract address.
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_arrive_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let name = format!("startdb-test-{}", std::process::id());
        let by_path = UnixDatagram::bind(&path).expect("bound");
        let by_name =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).expect("a name")).expect("bound");
        for (socket, address) in [(by_path, path.display().to_string()), (by_name, format!("@{name}"))] {
            send(&address, "READY=1").expect("sent");
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).expect("a datagram");
            assert_eq!(&buffer[..length], b"READY=1");
        }
        assert!(send("/nowhere/at/all", "READY=1").is_err());
    }
}
