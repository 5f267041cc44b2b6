//! Step 7: the loop on a kernel that is made up.
//!
//! New: whatever the loop asks of the kernel goes through `kernel.rs`, which simulates one: it cuts
//! bytes anywhere, takes a part, tells of events that mean nothing, all drawn from a seed. A run that
//! goes wrong goes wrong again with its seed. On a real network step 6 could only be hoped to work.
//!
//! ```sh
//! cargo run --example step7_simulated                  # 2,000 seeds
//! cargo run --example step7_simulated -- read-once     # the mistake of step 2: which seed finds it?
//! cargo run --example step7_simulated -- forget-edge   # the same for a subtler one
//! ```
//!
//! What is left: the server of this project is this loop with a real `Sys` beside the simulated one
//! (`src/sys/`), timers, a run queue, datagrams, a disk. `src/reactor/session.rs` has `pump`.

use std::time::{Duration, Instant};

#[allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "the tests of the course have both steps"
)]
#[path = "upper.rs"]
pub(crate) mod upper;
use upper::{Link, Protocol, Upper};
#[path = "kernel.rs"]
pub(crate) mod kernel;
use kernel::Kernel;

/// Mistakes that the loop can be told to make.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// One read for an event.
    ReadOnce,
    /// A short write is taken for a full socket, though nothing said that it would block.
    ForgetEdge,
}

fn main() {
    let bug = match std::env::args().nth(1).as_deref() {
        Some("read-once") => Bug::ReadOnce,
        Some("forget-edge") => Bug::ForgetEdge,
        _ => Bug::None,
    };
    match (0..2000).find_map(|seed| run(seed, bug).err().map(|wrong| (seed, wrong))) {
        Some((seed, wrong)) => eprintln!("seed {seed}: {wrong}"),
        None => eprintln!("2000 seeds, and every client got its answer"),
    }
}

/// Serves some clients until all is still; what went wrong.
pub(crate) fn run(seed: u64, bug: Bug) -> Result<(), String> {
    let mut kernel = Kernel::new(seed);
    let now = Instant::now();
    let mut near = Vec::new();
    for who in 0..1 + kernel.below(4) {
        let question = vec![b'a' + who as u8; kernel.below(5000)];
        kernel.connect(question);
        near.push((
            Link::default(),
            Upper::new(Duration::from_secs(5), now),
            [false, true],
        ));
    }
    while let Some((who, readable, writable)) = kernel.poll() {
        let (link, protocol, ready) = &mut near[who];
        *ready = [ready[0] | readable, ready[1] | writable];
        loop {
            let (mut moved, mut bytes) = (false, [0; 512]);
            if ready[0] && !link.ended {
                match kernel.read(who, &mut bytes) {
                    Ok(count) => {
                        (link.ended, moved) = (count == 0, true);
                        link.received.extend(&bytes[..count]);
                        ready[0] = bug != Bug::ReadOnce;
                    }
                    Err(_) => ready[0] = false,
                }
            }
            protocol.advance(link, now);
            if ready[1] && !link.to_send.is_empty() {
                match kernel.write(who, &link.to_send) {
                    Ok(count) => {
                        ready[1] = bug != Bug::ForgetEdge || count == link.to_send.len();
                        (moved, _) = (true, link.to_send.drain(..count));
                    }
                    Err(_) => ready[1] = false,
                }
            }
            if !moved {
                break;
            }
        }
    }
    for (who, far) in kernel.all.iter().enumerate() {
        let (has, wants) = (far.answer.len(), far.question.len());
        if far.answer != far.question.to_ascii_uppercase() {
            return Err(format!(
                "client {who} has {has} bytes of {wants}, and all is still"
            ));
        }
    }
    Ok(())
}
