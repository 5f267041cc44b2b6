// Exercise 10, a bug in the loop: this is the loop of step 7, written in another way, and some seeds
// leave a client without its answer. Find out which, what happened to it, and why; then mend it.
//
// Look at: `tests/course/kernel.rs` (what a kernel promises), the park invariant in
// `src/reactor/session.rs`, and what it calls a fact. Print each event and each call of one seed; the
// seed that goes wrong soonest has the shortest story.
//
// Run: cargo test --test course --features exercises e10

use std::time::{Duration, Instant};

use crate::step7_simulated::kernel::Kernel;
use crate::step7_simulated::upper::{Link, Protocol, Upper};

/// Serves some clients until all is still; what went wrong.
pub(crate) fn run(seed: u64) -> Result<(), String> {
    let mut kernel = Kernel::new(seed);
    let now = Instant::now();
    let mut near = Vec::new();
    for who in 0..1 + kernel.below(3) {
        let question = vec![b'a' + who as u8; kernel.below(4000)];
        kernel.connect(question);
        let upper = Upper::new(Duration::from_secs(5), now);
        near.push((Link::default(), upper, [false, true]));
    }
    while let Some((who, readable, writable)) = kernel.poll() {
        let (link, protocol, ready) = &mut near[who];
        *ready = [ready[0] | readable, ready[1] | writable];
        let mut bytes = [0; 512];
        while ready[0] && !link.ended {
            match kernel.read(who, &mut bytes) {
                Ok(count) => {
                    link.ended = count == 0;
                    link.received.extend(&bytes[..count]);
                }
                Err(_) => ready[0] = false,
            }
            protocol.advance(link, now);
            while ready[1] && !link.to_send.is_empty() {
                match kernel.write(who, &link.to_send) {
                    Ok(count) => _ = link.to_send.drain(..count),
                    Err(_) => ready[1] = false,
                }
            }
        }
    }
    for (who, far) in kernel.all.iter().enumerate() {
        if far.answer != far.question.to_ascii_uppercase() {
            let (has, wants) = (far.answer.len(), far.question.len());
            return Err(format!("client {who} has {has} bytes of {wants}"));
        }
    }
    Ok(())
}
