//! The queries that run now, by id: one id is one query, and a user has so many at a time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::accounts::Account;
use crate::engine::Engine;
use crate::exception::{Exception, code};

/// How long `replace_running_query` waits for the query that it replaces.
const REPLACE_WAIT: Duration = Duration::from_secs(5);
/// How often a query is cancelled that has not noticed, and for how long.
const CANCEL_EVERY: Duration = Duration::from_millis(100);
const CANCEL_FOR: Duration = Duration::from_secs(60);

/// Every query that runs.
#[derive(Debug, Clone, Default)]
pub struct Queries(Arc<Mutex<HashMap<String, Entry>>>);

#[derive(Debug)]
struct Entry {
    user: String,
    cancelled: Arc<AtomicBool>,
}

/// A query's place among those that run; left on drop.
#[derive(Debug)]
pub struct Running {
    queries: Queries,
    query_id: String,
    cancelled: Arc<AtomicBool>,
}

impl Queries {
    /// Takes a place.
    ///
    /// # Errors
    /// 216 where a query of this id runs, 202 where the user has too many.
    pub fn begin(&self, query_id: &str, account: &Account) -> Result<Running, Exception> {
        let mut entries = self.lock();
        if entries.contains_key(query_id) {
            return Err(Exception::new(
                code::QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING,
                "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING",
                &format!("Query with id = {query_id} is already running."),
            ));
        }
        if let Some(limit) = account.max_concurrent_queries {
            let of_user = |entry: &&Entry| entry.user == account.name;
            if entries.values().filter(of_user).count() >= limit {
                return Err(Exception::new(
                    code::TOO_MANY_SIMULTANEOUS_QUERIES,
                    "TOO_MANY_SIMULTANEOUS_QUERIES",
                    &format!(
                        "Too many simultaneous queries for user {}. Maximum: {limit}",
                        account.name
                    ),
                ));
            }
        }
        let cancelled = Arc::new(AtomicBool::new(false));
        entries.insert(
            query_id.to_owned(),
            Entry {
                user: account.name.clone(),
                cancelled: Arc::clone(&cancelled),
            },
        );
        Ok(Running {
            queries: self.clone(),
            query_id: query_id.to_owned(),
            cancelled,
        })
    }

    /// Cancels the user's query of this id and waits until it has ended.
    ///
    /// # Errors
    /// 216 where it is another user's, or does not end.
    pub async fn replace(
        &self,
        engine: &Arc<Engine>,
        query_id: &str,
        account: &Account,
    ) -> Result<(), Exception> {
        let cannot = |why: &str| {
            Exception::new(
                code::QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING,
                "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING",
                &format!("Query with id = {query_id} is already running {why}"),
            )
        };
        match self.lock().get(query_id) {
            None => return Ok(()),
            Some(entry) if entry.user != account.name => {
                return Err(cannot("by another user."));
            }
            Some(_) => {}
        }
        self.cancel(engine, query_id);
        let deadline = Instant::now() + REPLACE_WAIT;
        while self.lock().contains_key(query_id) {
            if Instant::now() >= deadline {
                return Err(cannot("and can't be stopped."));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Cancels a query, now if the engine has begun with it, or as soon as it does. Does not wait.
    pub fn cancel(&self, engine: &Arc<Engine>, query_id: &str) {
        let Some(cancelled) = self
            .lock()
            .get(query_id)
            .map(|entry| Arc::clone(&entry.cancelled))
        else {
            return;
        };
        cancelled.store(true, Ordering::Release);
        let (queries, engine, query_id) = (self.clone(), Arc::clone(engine), query_id.to_owned());
        let task = move || {
            let deadline = Instant::now() + CANCEL_FOR;
            let same = |entry: &Entry| Arc::ptr_eq(&entry.cancelled, &cancelled);
            while Instant::now() < deadline && queries.lock().get(&query_id).is_some_and(same) {
                engine.kill(&query_id);
                std::thread::sleep(CANCEL_EVERY);
            }
        };
        tokio::task::spawn_blocking(task);
    }

    /// Ids and users of all.
    pub fn users(&self) -> Vec<(String, String)> {
        let user = |(id, entry): (&String, &Entry)| (id.clone(), entry.user.clone());
        self.lock().iter().map(user).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// Whether the query was cancelled, perhaps before the engine knew of it.
    ///
    /// # Errors
    /// 394: it was.
    pub fn check(&self) -> Result<(), Exception> {
        if self.cancelled.load(Ordering::Acquire) {
            return Err(Exception::new(
                code::QUERY_WAS_CANCELLED,
                "QUERY_WAS_CANCELLED",
                "Query was cancelled",
            ));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.queries.lock().remove(&self.query_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str, limit: Option<usize>) -> Account {
        Account {
            name: name.to_owned(),
            max_concurrent_queries: limit,
            ..Account::default()
        }
    }

    #[test]
    fn an_id_is_one_query_and_a_user_has_so_many() {
        let queries = Queries::default();
        let (a, b) = (account("a", Some(2)), account("b", None));
        let first = queries.begin("1", &a).unwrap();
        assert_eq!(queries.begin("1", &b).unwrap_err().code(), 216);
        let _second = queries.begin("2", &a).unwrap();
        assert_eq!(queries.begin("3", &a).unwrap_err().code(), 202);
        let _others = queries.begin("3", &b).unwrap();
        drop(first);
        let _again = queries.begin("1", &a).unwrap();
    }
}
