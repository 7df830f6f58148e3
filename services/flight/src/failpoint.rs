//! Places at which a test can kill the process. Compiled in with the feature `failpoints` only.
//!
//! `FAILPOINTS="ingester::after-range-commit=2%return"` kills the process, as `kill -9` does, on
//! two of a hundred passes. The syntax is that of the `fail` crate; `sleep(MS)` and `pause` work too.

/// Names a failpoint. Expands to nothing unless the calling crate is built with its own feature
/// `failpoints`, which must turn on `flight/failpoints`.
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        $crate::failpoint::hit($name);
    };
}

/// Reads `FAILPOINTS` from the environment, once, at the start of a service.
pub fn setup() {
    #[cfg(feature = "failpoints")]
    {
        // Dropping the scenario would take the failpoints away again: they are there for good.
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| std::mem::forget(fail::FailScenario::setup()));
        tracing::warn!(
            failpoints = std::env::var("FAILPOINTS").unwrap_or_default(),
            "built with failpoints: for tests only"
        );
    }
}

/// Does what `FAILPOINTS` says for `name`.
#[cfg(feature = "failpoints")]
pub fn hit(name: &str) {
    fail::fail_point!(name, |_| {
        eprintln!("failpoint {name}: killed");
        // SIGKILL, not abort: nothing may run after it, no handler and no buffer flush.
        let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
        loop {
            std::thread::park();
        }
    });
}
