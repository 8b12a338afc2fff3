//! Who is connected: what `system_views.clients` shows.

use helenus_proto::cql::Version;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Of what a client says of itself, so many bytes are remembered.
const SAID_BYTES_MAX: usize = 2 * 1024;

/// A client that is connected.
#[derive(Debug)]
pub(super) struct Client {
    /// Where it is.
    pub(super) address: SocketAddr,
    requests: AtomicU64,
    said: Mutex<Said>,
}

/// What a client said in its STARTUP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Set when it has.
    pub(super) version: Option<Version>,
    /// In the order of their names.
    pub(super) options: Vec<(String, String)>,
}

impl Client {
    /// It has sent a request.
    pub(super) fn asks(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// How many it has sent.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// It has sent STARTUP. Options that are too long to be remembered are left out.
    pub(super) fn started(&self, version: Version, options: &BTreeMap<String, String>) {
        let mut left = SAID_BYTES_MAX;
        let mut short = Vec::new();
        for (name, value) in options {
            let bytes = name.len() + value.len();
            if bytes <= left {
                left -= bytes;
                short.push((name.clone(), value.clone()));
            }
        }
        let mut said = self.said.lock().expect("nothing panics while it holds this");
        *said = Said { version: Some(version), options: short };
    }

    pub(super) fn said(&self) -> Said {
        self.said.lock().expect("nothing panics while it holds this").clone()
    }
}

/// All that are connected.
#[derive(Debug, Default)]
pub(super) struct Clients {
    last: u64,
    connected: BTreeMap<u64, Arc<Client>>,
}

impl Clients {
    /// One more, and the number by which it leaves. `None`: there are `most` already.
    pub(super) fn admit(&mut self, address: SocketAddr, most: usize) -> Option<(u64, Arc<Client>)> {
        if self.connected.len() >= most {
            return None;
        }
        self.last += 1;
        let client =
            Arc::new(Client { address, requests: AtomicU64::new(0), said: Mutex::default() });
        self.connected.insert(self.last, Arc::clone(&client));
        Some((self.last, client))
    }

    pub(super) fn leave(&mut self, number: u64) {
        self.connected.remove(&number);
    }

    /// In the order in which they came.
    pub(super) fn all(&self) -> Vec<Arc<Client>> {
        self.connected.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_come_and_go_and_one_too_many_is_not_let_in() {
        let mut clients = Clients::default();
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let (first, client) = clients.admit(address, 2).unwrap();
        clients.admit(address, 2).unwrap();
        assert!(clients.admit(address, 2).is_none());
        client.asks();
        assert_eq!(clients.all()[0].requests(), 1);
        clients.leave(first);
        assert_eq!(clients.all().len(), 1);
        assert!(clients.admit(address, 2).is_some());
    }

    #[test]
    fn what_a_client_says_of_itself_is_remembered_as_far_as_it_is_short() {
        let mut clients = Clients::default();
        let (_, client) = clients.admit("127.0.0.1:1".parse().unwrap(), 1).unwrap();
        assert_eq!(client.said(), Said::default());
        let option = |name: &str, value: String| (name.to_owned(), value);
        let options = [
            option("A", "x".repeat(SAID_BYTES_MAX)),
            option("CQL_VERSION", "3.0.0".to_owned()),
            option("DRIVER_NAME", "a driver".to_owned()),
        ];
        client.started(Version::V5, &options.clone().into());
        let said = client.said();
        assert_eq!((said.version, said.options), (Some(Version::V5), options[1..].to_vec()));
    }
}
