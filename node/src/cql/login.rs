//! Who a client is: what STARTUP is answered with, and what is heard from then until the client may ask for more.
//!
//! As in Cassandra: AUTHENTICATE, and then AUTH_RESPONSE and nothing else, until one is answered with AUTH_SUCCESS. Attempts
//! are worked on one after another, and a connection has [`ATTEMPTS_MAX`].

use super::Front;
use super::answer::Answered;
use crate::auth::NoLogin;
use crate::config::Authenticator;
use helenus_proto::cql::{
    ErrorKind, ErrorResponse, Extras, PASSWORD_AUTHENTICATOR, Plain, Request, Response, Version,
};
use std::sync::Arc;

/// Attempts of a connection. Whoever needs more connects again.
const ATTEMPTS_MAX: u8 = 3;

/// How far a client has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has not said STARTUP.
    New,
    /// It has not said who it is.
    Authenticating {
        /// Attempts that failed.
        failed: u8,
        /// One is being worked on.
        at_work: bool,
    },
    /// It may ask for what it likes.
    Ready,
}

impl Stage {
    /// What a request says of who its client is; anything else is against the protocol now.
    pub(super) fn login(&mut self, request: Request) -> Result<Plain, ErrorResponse> {
        let protocol = |why: String| ErrorResponse::new(ErrorKind::Protocol, why);
        let name = format!("{:?}", request.opcode()).to_uppercase();
        let (Stage::Authenticating { at_work, failed }, Request::AuthResponse { token }) =
            (self, request)
        else {
            return Err(protocol(format!("Unexpected message {name}, expecting SASL_RESPONSE")));
        };
        if *at_work {
            return Err(protocol("the AUTH_RESPONSE before is not answered yet".to_owned()));
        }
        match Plain::read(&token.unwrap_or_default()) {
            Ok(who) => {
                *at_work = true;
                Ok(who)
            }
            Err(bad) => {
                *failed += 1;
                Err(ErrorResponse::new(ErrorKind::BadCredentials, bad.to_string()))
            }
        }
    }

    /// Takes note of an answer to AUTH_RESPONSE, if it is one.
    pub(super) fn note(&mut self, response: &Response) {
        let Stage::Authenticating { failed, at_work } = self else { return };
        if let Response::AuthSuccess { .. } = response {
            *self = Stage::Ready;
        } else {
            *at_work = false;
            *failed += 1;
        }
    }

    /// Whether there were enough attempts.
    pub(super) fn is_over(self) -> bool {
        matches!(self, Stage::Authenticating { failed, .. } if failed >= ATTEMPTS_MAX)
    }
}

impl Front {
    /// What STARTUP is answered with.
    pub(super) fn welcome(&self) -> (Stage, Response) {
        match self.coordinator.config.authenticator {
            Authenticator::AllowAll => (Stage::Ready, Response::Ready),
            Authenticator::Password => {
                let class = PASSWORD_AUTHENTICATOR.to_owned();
                let stage = Stage::Authenticating { failed: 0, at_work: false };
                (stage, Response::Authenticate { class })
            }
        }
    }

    /// Answers AUTH_RESPONSE.
    pub(super) async fn login(
        self: Arc<Self>,
        version: Version,
        stream: i16,
        who: Plain,
    ) -> Answered {
        let response = match self.auth.login(who).await {
            Ok(()) => Response::AuthSuccess { token: None },
            Err(why) => {
                let kind = match &why {
                    NoLogin::Wrong(_) | NoLogin::NotPermitted(_) | NoLogin::Unreadable(_) => {
                        ErrorKind::BadCredentials
                    }
                    NoLogin::Overloaded => ErrorKind::Overloaded,
                    NoLogin::Stopped(_) => ErrorKind::Server,
                };
                Response::Error(ErrorResponse::new(kind, why.to_string()))
            }
        };
        Answered { version, stream, extras: Extras::default(), response, unlogged: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const ASKED: Stage = Stage::Authenticating { failed: 0, at_work: false };

    fn response(token: &'static [u8]) -> Request {
        Request::AuthResponse { token: Some(Bytes::from_static(token)) }
    }

    fn wrong() -> Response {
        Response::Error(ErrorResponse::new(ErrorKind::BadCredentials, "wrong"))
    }

    #[test]
    fn one_attempt_is_worked_on_at_a_time() {
        let mut stage = ASKED;
        assert_eq!(stage.login(response(b"\0ada\0x")).unwrap().username, "ada");
        let early = stage.login(response(b"\0ada\0y")).unwrap_err();
        assert_eq!(early.kind, ErrorKind::Protocol);
        stage.note(&wrong());
        assert_eq!(stage, Stage::Authenticating { failed: 1, at_work: false });
        stage.login(response(b"\0ada\0y")).unwrap();
        stage.note(&Response::AuthSuccess { token: None });
        assert_eq!(stage, Stage::Ready);
        assert!(!stage.is_over());
        // Errors of statements are no attempts.
        stage.note(&wrong());
        assert_eq!(stage, Stage::Ready);
    }

    #[test]
    fn three_attempts_are_enough_whatever_is_wrong_with_them() {
        let mut stage = ASKED;
        assert_eq!(stage.login(response(b"")).unwrap_err().kind, ErrorKind::BadCredentials);
        stage.login(response(b"\0ada\0x")).unwrap();
        stage.note(&wrong());
        assert!(!stage.is_over());
        let nobody = stage.login(Request::AuthResponse { token: None }).unwrap_err();
        assert_eq!(nobody.message, "Password must not be null");
        assert!(stage.is_over());
    }

    #[test]
    fn anything_else_is_against_the_protocol_and_no_attempt() {
        let mut stage = ASKED;
        for (request, name) in [
            (Request::Options, "OPTIONS"),
            (Request::Register { kinds: Vec::new() }, "REGISTER"),
            (Request::Prepare { query: String::new(), keyspace: None }, "PREPARE"),
        ] {
            let error = stage.login(request).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Protocol);
            assert_eq!(
                error.message,
                format!("Unexpected message {name}, expecting SASL_RESPONSE")
            );
        }
        assert_eq!(stage, ASKED);
    }
}
