//! SIGINT and SIGTERM, so that an endless client can still print its summary.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::Failure;

/// A flag that SIGINT and SIGTERM raise. A second signal ends the process at once, whatever it
/// waits for.
///
/// # Errors
/// The system takes no handler.
pub fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // Registered first, so that at the first signal it sees the flag still down.
        flag::register_conditional_default(signal, Arc::clone(&stop))
            .and_then(|_| flag::register(signal, Arc::clone(&stop)))
            .map_err(|error| Failure::unavailable(format!("cannot handle signals: {error}")))?;
    }
    Ok(stop)
}
