//! Sessions (`session_id`): one connection to the engine each, with what SET, USE and CREATE TEMPORARY
//! TABLE made of it. A session that was only asked has none yet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::Connection;
use crate::exception::{Exception, code};

/// What a request may give as `session_timeout` at most, and what it has without.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// What a request says of its session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionParams {
    /// `session_id`
    pub id: String,
    /// `session_timeout`, in seconds, as it came.
    pub timeout: Option<String>,
    /// `session_check`: the session must be there.
    pub check: bool,
    /// `close_session`: it ends with this request.
    pub close: bool,
}

/// User and id.
type Key = (String, String);

/// Every session.
#[derive(Debug, Clone)]
pub struct Sessions {
    all: Arc<Mutex<HashMap<Key, Session>>>,
    max: usize,
}

#[derive(Debug)]
struct Session {
    /// None while a request has the session.
    idle_since: Option<Instant>,
    timeout: Duration,
    connection: Option<Connection>,
}

/// A session in the hands of one request; given back on drop.
#[derive(Debug)]
pub struct Lease {
    sessions: Sessions,
    key: Key,
    timeout: Duration,
    close: bool,
    /// What earlier requests of the session left, or what this one leaves.
    pub connection: Option<Connection>,
}

impl Sessions {
    /// Room for so many sessions.
    pub fn new(max: usize) -> Self {
        Self {
            all: Arc::default(),
            max,
        }
    }

    /// Takes a session, which begins here if it is not there.
    ///
    /// # Errors
    /// 373 where another request has it, 372 where it had to be there and is not, 374 for a timeout
    /// that cannot be, 202 where there are too many.
    pub fn take(&self, user: &str, params: &SessionParams) -> Result<Lease, Exception> {
        let timeout = timeout(params.timeout.as_deref())?;
        let key = (user.to_owned(), params.id.clone());
        let mut all = self.lock();
        let expired = expire(&mut all);
        let count = all.len();
        let connection = match all.get_mut(&key) {
            Some(session) if session.idle_since.is_none() => {
                return Err(Exception::new(
                    code::SESSION_IS_LOCKED,
                    "SESSION_IS_LOCKED",
                    &format!("Session {} is locked by a concurrent client", params.id),
                ));
            }
            Some(session) => {
                session.idle_since = None;
                session.connection.take()
            }
            None if params.check => {
                return Err(Exception::new(
                    code::SESSION_NOT_FOUND,
                    "SESSION_NOT_FOUND",
                    &format!("Session {} not found", params.id),
                ));
            }
            None if count >= self.max => {
                return Err(Exception::new(
                    code::TOO_MANY_SIMULTANEOUS_QUERIES,
                    "TOO_MANY_SIMULTANEOUS_QUERIES",
                    &format!(
                        "Too many sessions. Maximum: {} (setting max_sessions). Close some with \
                         close_session=1, or give them a shorter session_timeout",
                        self.max
                    ),
                ));
            }
            None => {
                let session = Session {
                    idle_since: None,
                    timeout,
                    connection: None,
                };
                all.insert(key.clone(), session);
                None
            }
        };
        drop(all);
        // Closing connections takes a while; nobody waits for it.
        drop(expired);
        Ok(Lease {
            sessions: self.clone(),
            key,
            timeout,
            close: params.close,
            connection,
        })
    }

    /// Ends sessions that were idle for too long.
    pub fn expire(&self) {
        let expired = expire(&mut self.lock());
        drop(expired);
    }

    /// Ends every session that no request has.
    pub fn close(&self) {
        let idle = {
            let mut all = self.lock();
            let keys: Vec<Key> = all
                .iter()
                .filter(|(_, session)| session.idle_since.is_some())
                .map(|(key, _)| key.clone())
                .collect();
            keys.iter()
                .filter_map(|key| all.remove(key))
                .collect::<Vec<_>>()
        };
        drop(idle);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Session>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn expire(all: &mut HashMap<Key, Session>) -> Vec<Session> {
    let over = |session: &Session| {
        session
            .idle_since
            .is_some_and(|since| since.elapsed() >= session.timeout)
    };
    let keys: Vec<Key> = all
        .iter()
        .filter(|(_, session)| over(session))
        .map(|(key, _)| key.clone())
        .collect();
    keys.iter().filter_map(|key| all.remove(key)).collect()
}

fn timeout(text: Option<&str>) -> Result<Duration, Exception> {
    let invalid = |why: String| {
        Exception::new(
            code::INVALID_SESSION_TIMEOUT,
            "INVALID_SESSION_TIMEOUT",
            &why,
        )
    };
    let Some(text) = text else {
        return Ok(DEFAULT_TIMEOUT);
    };
    let seconds = text
        .parse()
        .map_err(|_| invalid(format!("Invalid session timeout: '{text}'")))?;
    let timeout = Duration::from_secs(seconds);
    if timeout > MAX_TIMEOUT {
        return Err(invalid(format!(
            "Session timeout '{text}' is larger than max_session_timeout: {}. Maximum session \
             timeout could be modified in configuration file.",
            MAX_TIMEOUT.as_secs()
        )));
    }
    Ok(timeout)
}

impl Drop for Lease {
    fn drop(&mut self) {
        let connection = self.connection.take();
        let mut all = self.sessions.lock();
        if self.close {
            all.remove(&self.key);
            drop(all);
            drop(connection);
        } else if let Some(session) = all.get_mut(&self.key) {
            session.idle_since = Some(Instant::now());
            session.timeout = self.timeout;
            session.connection = connection;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(id: &str) -> SessionParams {
        SessionParams {
            id: id.to_owned(),
            ..SessionParams::default()
        }
    }

    #[test]
    fn a_session_is_one_users_and_one_requests_at_a_time() {
        let sessions = Sessions::new(2);
        let lease = sessions.take("a", &params("s")).unwrap();
        assert_eq!(sessions.take("a", &params("s")).unwrap_err().code(), 373);
        let other = sessions.take("b", &params("s")).unwrap();
        assert_eq!(sessions.take("a", &params("t")).unwrap_err().code(), 202);
        drop((lease, other));
        let check = SessionParams {
            check: true,
            ..params("s")
        };
        assert!(sessions.take("a", &check).is_ok());
        assert_eq!(sessions.take("c", &check).unwrap_err().code(), 372);
        let close = SessionParams {
            close: true,
            ..params("s")
        };
        assert!(sessions.take("a", &close).is_ok());
        assert_eq!(sessions.take("a", &check).unwrap_err().code(), 372);
    }

    #[test]
    fn sessions_end_when_their_time_is_over() {
        let sessions = Sessions::new(2);
        let short = SessionParams {
            timeout: Some("0".to_owned()),
            ..params("s")
        };
        drop(sessions.take("a", &short).unwrap());
        let check = SessionParams {
            check: true,
            ..params("s")
        };
        assert_eq!(sessions.take("a", &check).unwrap_err().code(), 372);
        for timeout in ["3601", "x", "-1"] {
            let wrong = SessionParams {
                timeout: Some(timeout.to_owned()),
                ..params("s")
            };
            assert_eq!(sessions.take("a", &wrong).unwrap_err().code(), 374);
        }
    }
}
