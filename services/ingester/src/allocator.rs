//! When memory that was freed goes back to the kernel.

use libmimalloc_sys::{mi_collect, mi_option_set, mi_option_t};

/// `mi_option_purge_delay` of mimalloc's `mi_option_e`: milliseconds for which a freed page is kept.
const PURGE_DELAY: mi_option_t = 15;
/// The operator's own choice, which mimalloc reads when the process begins.
const VARIABLE: &str = "MIMALLOC_PURGE_DELAY";
/// Milliseconds. By default mimalloc keeps freed pages for a second, in which a backlog fills and empties
/// several batches: 217 to 229 MB were resident, and with this 183 to 190 MB, at the same CPU time. At once
/// (0) it is 157 MB, but every page is faulted in again: 0.2 CPU seconds a million rows.
const DELAY_MS: i64 = 100;

/// Has mimalloc give freed pages back after a tenth of a second, unless the operator chose otherwise
/// (`MIMALLOC_PURGE_DELAY`, in milliseconds). To be called first in `main`.
pub fn give_back_soon() {
    if std::env::var_os(VARIABLE).is_none() {
        // SAFETY: sets a number in a table of mimalloc's; a number that is no option is ignored.
        unsafe { mi_option_set(PURGE_DELAY, DELAY_MS) }
    }
}

/// Gives back what this thread has freed. For a thread that will have little to do: mimalloc looks at the age
/// of freed pages only when it is asked for memory.
pub fn give_back_now() {
    // SAFETY: frees nothing that is in use, and takes no pointer.
    unsafe { mi_collect(true) }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use libmimalloc_sys::mi_option_get;

    use super::*;

    /// Set for the process that [`the_option_is_the_one_that_the_variable_sets`] starts.
    const CHILD: &str = "CHOSEN_BY_OPERATOR";

    fn delay_ms() -> i64 {
        // SAFETY: reads from the same table.
        unsafe { mi_option_get(PURGE_DELAY) }
    }

    #[test]
    fn the_option_is_the_one_that_the_variable_sets() {
        if std::env::var_os(CHILD).is_some() {
            give_back_soon();
            println!("{} ms are kept", delay_ms());
            return;
        }
        give_back_soon();
        assert_eq!(delay_ms(), DELAY_MS);
        let name = "allocator::tests::the_option_is_the_one_that_the_variable_sets";
        let child = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(CHILD, "1")
            .env(VARIABLE, "777")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(said.contains("777 ms are kept"), "{said}");
    }
}
