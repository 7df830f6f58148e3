//! Ctrl-C and SIGTERM, counted: the first asks to stop, the second insists.

use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static COUNT: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: nix::libc::c_int) {
    COUNT.fetch_add(1, Ordering::SeqCst);
}

/// Begins to count SIGINT, SIGTERM and SIGHUP (the terminal was closed) instead of dying of them.
pub fn catch() -> nix::Result<()> {
    let action = SigAction::new(
        SigHandler::Handler(count),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only adds to an atomic number.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// How many have come.
pub fn caught() -> usize {
    COUNT.load(Ordering::SeqCst)
}
