//! Whether it pays to ask a socket again that may have nothing more.

/// Whether a socket that was just drained is asked again at once: another turn of the loop costs
/// about three times as much as a call that finds nothing, so it pays if one in three finds
/// something.
#[derive(Debug, Default)]
pub(super) struct Eagerness {
    /// Above 0 it pays.
    level: u8,
    /// Times that it was not tried since it was tried last.
    left_out: u8,
    is_trying: bool,
}

impl Eagerness {
    const LEVEL_MAX: u8 = 16;
    const LEFT_OUT_MAX: u8 = 32;

    /// Whether it is to be asked again now.
    pub(super) fn asks_again(&mut self) -> bool {
        self.is_trying = self.level > 0 || self.left_out >= Self::LEFT_OUT_MAX;
        self.left_out = match self.is_trying {
            true => 0,
            false => self.left_out + 1,
        };
        self.is_trying
    }

    /// Whether something was there; of no interest if it had not been asked again.
    pub(super) fn learn(&mut self, found: bool) {
        self.level = match (std::mem::take(&mut self.is_trying), found) {
            (false, _) => return,
            (true, true) => (self.level + 2).min(Self::LEVEL_MAX),
            (true, false) => self.level.saturating_sub(1),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_again_goes_on_while_one_in_three_finds_something_and_is_tried_now_and_then() {
        let tries = |finds: fn(u32) -> bool| {
            let mut eagerness = Eagerness::default();
            let asked = (0..1000).filter(|i| {
                let asks = eagerness.asks_again();
                eagerness.learn(finds(*i));
                asks
            });
            asked.count()
        };
        assert!(tries(|i| i % 2 == 0) > 900);
        assert!(tries(|_| false) < 40);
        assert!(tries(|_| true) > 900);
    }
}
