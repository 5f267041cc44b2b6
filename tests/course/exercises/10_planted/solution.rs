// What waited to be sent was sent only after something was read: that a socket can be written to again
// is a fact of its own. Once the client had ended there was nothing to read, and the last edge, which
// said that there was room, led nowhere.

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
        }
        protocol.advance(link, now);
        while ready[1] && !link.to_send.is_empty() {
            match kernel.write(who, &link.to_send) {
                Ok(count) => _ = link.to_send.drain(..count),
                Err(_) => ready[1] = false,
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
