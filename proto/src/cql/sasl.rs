//! What AUTH_RESPONSE carries for Cassandra's `PasswordAuthenticator`: a name and a password, by SASL's mechanism PLAIN
//! (RFC 4616): `authorization id NUL name NUL password`.
//!
//! Read as Cassandra reads it: the authorization id may be missing and is passed over, and so is the NUL before it; the
//! name and the password are UTF-8 and not empty.

use std::fmt;

/// The class that AUTHENTICATE names. Drivers decide by it what to answer with.
pub const PASSWORD_AUTHENTICATOR: &str = "org.apache.cassandra.auth.PasswordAuthenticator";

/// Bytes of a token. Whatever is longer is nobody's name and password.
pub const TOKEN_BYTES_MAX: usize = 4096;

/// Who a client says it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Plain {
    /// The role.
    pub username: String,
    /// Its password, if it is.
    pub password: String,
}

impl fmt::Debug for Plain {
    /// Passwords are in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plain").field("username", &self.username).finish_non_exhaustive()
    }
}

/// A token that names nobody. Where Cassandra finds the same, it says the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// It is longer than [`TOKEN_BYTES_MAX`].
    #[error(
        "Credential format error: {0} bytes, and a name and a password have {TOKEN_BYTES_MAX} at most"
    )]
    TooLong(usize),
    /// There is a third NUL.
    #[error(
        "Credential format error: username or password is empty or contains NUL(\\0) character"
    )]
    Nul,
    /// No password.
    #[error("Password must not be null")]
    NoPassword,
    /// No name.
    #[error("Authentication ID must not be null")]
    NoName,
    /// The name or the password.
    #[error("Credential format error: username or password is not UTF-8")]
    NotText,
}

impl Plain {
    /// Reads a token.
    pub fn read(token: &[u8]) -> Result<Plain, BadToken> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(BadToken::TooLong(token.len()));
        }
        // From the end, so that a client that leaves the authorization id out, with its NUL, is understood.
        let mut parts = token.rsplitn(3, |byte| *byte == 0);
        let password = parts.next().unwrap_or_default();
        let name = parts.next().unwrap_or_default();
        if parts.next().is_some_and(|authorization| authorization.contains(&0)) {
            return Err(BadToken::Nul);
        }
        if password.is_empty() {
            return Err(BadToken::NoPassword);
        }
        if name.is_empty() {
            return Err(BadToken::NoName);
        }
        let text = |bytes: &[u8]| {
            std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| BadToken::NotText)
        };
        Ok(Plain { username: text(name)?, password: text(password)? })
    }

    /// The token that a client sends.
    pub fn write(&self) -> Vec<u8> {
        let Plain { username, password } = self;
        [b"\0", username.as_bytes(), b"\0", password.as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(username: &str, password: &str) -> Plain {
        Plain { username: username.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn a_token_is_read_with_and_without_an_authorization_id() {
        for token in [&b"\0ada\0secret"[..], b"ada\0secret", b"somebody\0ada\0secret"] {
            assert_eq!(Plain::read(token), Ok(plain("ada", "secret")), "{token:?}");
        }
    }

    #[test]
    fn what_names_nobody_is_told_in_the_words_of_cassandra() {
        for (token, words) in [
            (&b""[..], "Password must not be null"),
            (b"ada", "Authentication ID must not be null"),
            (b"\0ada\0", "Password must not be null"),
            (b"\0\0secret", "Authentication ID must not be null"),
            (
                b"\0ada\0sec\0ret",
                "Credential format error: username or password is empty or contains NUL(\\0) character",
            ),
            (b"\0ada\0\xff", "Credential format error: username or password is not UTF-8"),
        ] {
            assert_eq!(Plain::read(token).unwrap_err().to_string(), words, "{token:?}");
        }
    }

    #[test]
    fn a_long_token_is_refused_and_no_password_is_printed() {
        let most = plain("ada", &"x".repeat(TOKEN_BYTES_MAX - 5));
        assert_eq!(Plain::read(&most.write()), Ok(most.clone()));
        assert!(!format!("{most:?}").contains('x'));
        let more = plain("ada", &"x".repeat(TOKEN_BYTES_MAX));
        assert_eq!(Plain::read(&more.write()), Err(BadToken::TooLong(TOKEN_BYTES_MAX + 5)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(username in "[^\0]{1,40}", password in "[^\0]{1,40}") {
            let plain = Plain { username, password };
            prop_assert_eq!(Plain::read(&plain.write()), Ok(plain));
        }

        #[test]
        fn no_token_panics(token in proptest::collection::vec(any::<u8>(), 0..64)) {
            drop(Plain::read(&token));
        }
    }
}
