//! The keys of who may come in, and of what is encrypted.

use super::{Key, TOP};
use crate::config::raw::TlsDraft;
use crate::config::words::{text, time, word};
use crate::config::{Authenticator, TlsFiles};
use std::path::Path;

const AUTHENTICATORS: [(&str, Authenticator); 2] = [
    ("AllowAllAuthenticator", Authenticator::AllowAll),
    ("PasswordAuthenticator", Authenticator::Password),
];

/// `file!("name", "about", port, file, "instance")`: a path that encrypts a port.
macro_rules! file {
    ($name:literal, $about:literal, $port:ident, $file:ident, $instance:literal) => {
        Key {
            table: TOP,
            name: $name,
            about: $about,
            read: |value, draft| {
                draft.$port.$file = Some(value.name()?.into());
                Ok(())
            },
            write: |config| {
                let TlsDraft { $file, .. } = TlsDraft::of(config.$port.as_ref());
                $file.as_deref().map(path)
            },
            instance: $instance,
        }
    };
}

fn path(path: &Path) -> String {
    text(&path.display())
}

pub(super) const CQL_CERTIFICATE: Key = file!(
    "native_transport_tls_certificate",
    "With it CQL is encrypted (TLS 1.2 and 1.3), and nothing else is spoken there. A PEM file: this node's certificate,\nthen those between it and the authority's. Read at the start.",
    native_transport_tls,
    certificate,
    "\"node.crt\""
);
pub(super) const CQL_PRIVATE_KEY: Key = file!(
    "native_transport_tls_private_key",
    "The key of that certificate (PEM).",
    native_transport_tls,
    private_key,
    "\"node.key\""
);
pub(super) const CQL_CLIENT_CA: Key = file!(
    "native_transport_tls_client_ca",
    "Authorities (PEM): with it, clients must show a certificate of one of them.",
    native_transport_tls,
    client_ca,
    "\"clients-ca.crt\""
);
pub(super) const RPC_CERTIFICATE: Key = file!(
    "rpc_tls_certificate",
    "With it gRPC is encrypted, for clients and operators. A PEM file, as above.",
    rpc_tls,
    certificate,
    "\"node.crt\""
);
pub(super) const RPC_PRIVATE_KEY: Key = file!(
    "rpc_tls_private_key",
    "The key of that certificate (PEM).",
    rpc_tls,
    private_key,
    "\"node.key\""
);
pub(super) const RPC_CLIENT_CA: Key = file!(
    "rpc_tls_client_ca",
    "Authorities (PEM): with it, clients and operators must show a certificate of one of them.",
    rpc_tls,
    client_ca,
    "\"operators-ca.crt\""
);
pub(super) const AUTHENTICATOR: Key = Key {
    table: TOP,
    name: "authenticator",
    about: "Who may talk CQL: everybody (\"AllowAllAuthenticator\"), or roles with their passwords\n(\"PasswordAuthenticator\"; `helenusctl role create` makes them). gRPC knows no passwords.",
    read: |value, draft| {
        draft.config.authenticator = value.choice(&AUTHENTICATORS)?;
        Ok(())
    },
    write: |config| Some(word(&AUTHENTICATORS, config.authenticator)),
    instance: "",
};
pub(super) const CREDENTIALS_VALIDITY: Key = Key {
    table: TOP,
    name: "credentials_validity",
    about: "A role that logs in again within it is recognised without the work of hashing its password; \"0s\": never.",
    read: |value, draft| {
        draft.config.credentials_validity = value.duration()?;
        Ok(())
    },
    write: |config| Some(time(&config.credentials_validity)),
    instance: "",
};

impl TlsDraft {
    fn of(files: Option<&TlsFiles>) -> TlsDraft {
        files.cloned().map_or_else(TlsDraft::default, |files| TlsDraft {
            certificate: Some(files.certificate),
            private_key: Some(files.private_key),
            client_ca: files.client_ca,
        })
    }
}
