//! Passwords kept as argon2id hashes (RFC 9106), in the notation of the password hashing
//! competition ("PHC string"): the parameters stand with the hash.
//!
//! ```text
//! $argon2id$v=19$m=19456,t=2,p=1$SALT$HASH      m in KiB; SALT and HASH in base64 without padding
//! ```
//!
//! Rules:
//! 1. What a hash costs is bounded when it is read, before anybody's password is checked against it:
//!    a line may take [`MEMORY_KIB_MAX`] of memory and [`COST_MAX`] of work, and no more.
//! 2. Hashes are compared in constant time, and shown nowhere.
//! 3. Making and checking one takes tens of milliseconds on purpose: that is nothing for an event
//!    loop, which has it done by a job.
//!
//! Not here: whose hash it is.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use subtle::ConstantTimeEq;

/// What a hash of this form begins with.
pub const PREFIX: &str = "$argon2id$";

/// The memory of a hash that is made now, in KiB, and how often all of it is gone over: the least
/// that OWASP's "Password Storage Cheat Sheet" recommends.
pub const MEMORY_KIB: u32 = 19 * 1024;
/// See [`MEMORY_KIB`].
pub const PASSES: u32 = 2;

/// The most memory that a hash may ask for, in KiB: 64 MiB.
pub const MEMORY_KIB_MAX: u32 = 64 * 1024;
/// The most work that one may ask for, in KiB gone over: about 0.3 s of a processor.
pub const COST_MAX: u64 = 256 * 1024;
/// The most lanes, each of which adds to nothing but the least memory here, where they are filled
/// one after the other.
const LANES_MAX: u32 = 16;
/// Bytes of a salt, and of a hash.
const SALT_BYTES: std::ops::RangeInclusive<usize> = 8..=64;
const HASH_BYTES: std::ops::RangeInclusive<usize> = 16..=64;
/// Bytes of a salt, and of a hash, that are made now.
const SALT_BYTES_MADE: usize = 16;
const HASH_BYTES_MADE: usize = 32;

/// What a hash takes to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    /// KiB of memory.
    pub memory_kib: u32,
    /// How often it is gone over.
    pub passes: u32,
    /// Parts that could be filled at the same time.
    pub lanes: u32,
}

impl Default for Cost {
    fn default() -> Self {
        Self {
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: 1,
        }
    }
}

impl Cost {
    /// KiB that are gone over.
    pub fn work(self) -> u64 {
        u64::from(self.memory_kib) * u64::from(self.passes)
    }

    /// The cost of a hash that takes as much more work than this one as `dearest` does, to a few KiB
    /// that are gone over once more; `None` where that is next to nothing. It takes no more memory than
    /// `dearest`.
    pub fn up_to(self, dearest: Self) -> Option<Self> {
        let missing = dearest.work().saturating_sub(self.work());
        let passes = missing.div_ceil(u64::from(dearest.memory_kib)).max(1);
        let cost = Self {
            memory_kib: u32::try_from(missing / passes).ok()?,
            passes: u32::try_from(passes).ok()?,
            lanes: 1,
        };
        cost.check().is_ok().then_some(cost)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(',');
        let mut number = |name: &str| number(parts.next()?.strip_prefix(name)?.strip_prefix('=')?);
        let cost = Self {
            memory_kib: number("m")?,
            passes: number("t")?,
            lanes: number("p")?,
        };
        parts.next().is_none().then_some(cost)
    }

    /// Why a hash of this cost is refused, if it is.
    fn check(self) -> Result<(), String> {
        let Self {
            memory_kib,
            passes,
            lanes,
        } = self;
        if !(1..=LANES_MAX).contains(&lanes) {
            return Err(format!("p={lanes}; expected 1 to {LANES_MAX} lanes"));
        }
        if !(8 * lanes..=MEMORY_KIB_MAX).contains(&memory_kib) {
            let least = 8 * lanes;
            return Err(format!(
                "m={memory_kib}; expected {least} to {MEMORY_KIB_MAX} KiB of memory"
            ));
        }
        if passes == 0 || self.work() > COST_MAX {
            let most = COST_MAX / u64::from(memory_kib);
            return Err(format!(
                "t={passes}; expected 1 to {most} passes over so much memory"
            ));
        }
        Ok(())
    }
}

/// A decimal number without signs and leading zeros.
fn number(text: &str) -> Option<u32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    (is_plain && (text == "0" || !text.starts_with('0')))
        .then(|| text.parse().ok())
        .flatten()
}

/// A password as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash {
    cost: Cost,
    salt: Vec<u8>,
    bytes: Vec<u8>,
}

impl Hash {
    /// Reads the notation.
    ///
    /// # Errors
    /// What is wrong with it, without the hash itself.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = || format!("expected {PREFIX}v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH");
        let mut parts = text.strip_prefix(PREFIX).ok_or_else(form)?.split('$');
        let mut part = || parts.next().ok_or_else(form);
        let version = part()?;
        if version != "v=19" {
            return Err(format!("version {version:?}; expected \"v=19\""));
        }
        let cost = Cost::parse(part()?).ok_or_else(form)?;
        cost.check()?;
        let decode = |text: &str| BASE64.decode(text).map_err(|_| form());
        let (salt, bytes) = (decode(part()?)?, decode(part()?)?);
        if parts.next().is_some() {
            return Err(form());
        }
        for (what, bytes, bounds) in [("salt", &salt, SALT_BYTES), ("hash", &bytes, HASH_BYTES)] {
            if !bounds.contains(&bytes.len()) {
                return Err(format!(
                    "a {what} of {} bytes; expected {} to {}",
                    bytes.len(),
                    bounds.start(),
                    bounds.end()
                ));
            }
        }
        Ok(Self { cost, salt, bytes })
    }

    /// The hash of a password with `salt`, which has to be random.
    ///
    /// # Panics
    /// If the cost is beyond the bounds of one that is read.
    pub fn of(password: &[u8], salt: [u8; SALT_BYTES_MADE], cost: Cost) -> Self {
        assert_eq!(cost.check(), Ok(()), "a hash that nobody would take");
        let mut hash = Self {
            cost,
            salt: salt.to_vec(),
            bytes: vec![0; HASH_BYTES_MADE],
        };
        hash.bytes = hash.derive(password);
        hash
    }

    /// One of this cost that no password has.
    ///
    /// # Panics
    /// If the cost is beyond the bounds of one that is read.
    pub fn nobodys(cost: Cost) -> Self {
        assert_eq!(cost.check(), Ok(()), "a hash that nobody would take");
        Self {
            cost,
            salt: vec![0; SALT_BYTES_MADE],
            bytes: vec![0; HASH_BYTES_MADE],
        }
    }

    /// What it costs.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Whether it is the password's.
    pub fn is_of(&self, password: &[u8]) -> bool {
        self.derive(password).ct_eq(&self.bytes).into()
    }

    fn derive(&self, password: &[u8]) -> Vec<u8> {
        let Cost {
            memory_kib,
            passes,
            lanes,
        } = self.cost;
        let mut bytes = vec![0; self.bytes.len()];
        // Invariant: what has a form was checked against bounds that are narrower than argon2's, and
        // passwords are shorter than 4 GiB.
        let params = Params::new(memory_kib, passes, lanes, Some(bytes.len())).expect("in bounds");
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password, &self.salt, &mut bytes)
            .expect("in bounds");
        bytes
    }

    /// The notation. Not `Display`: it is as good as the password to one who has time.
    pub fn to_phc(&self) -> String {
        let Cost {
            memory_kib,
            passes,
            lanes,
        } = self.cost;
        let (salt, bytes) = (BASE64.encode(&self.salt), BASE64.encode(&self.bytes));
        format!("{PREFIX}v=19$m={memory_kib},t={passes},p={lanes}${salt}${bytes}")
    }
}

/// Shows what it costs.
impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hash")
            .field("cost", &self.cost)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHEAP: Cost = Cost {
        memory_kib: 8,
        passes: 1,
        lanes: 1,
    };

    /// The first two are of the tests of the reference implementation (`src/test.c` of
    /// P-H-C/phc-winner-argon2).
    #[test]
    fn hashes_of_the_reference_implementation_are_taken() {
        for text in [
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
        ] {
            let hash = Hash::parse(text).expect(text);
            assert!(hash.is_of(b"password"), "{text}");
            assert!(!hash.is_of(b"Password"));
            assert!(!Hash::nobodys(hash.cost()).is_of(b"password"));
            assert_eq!(hash.to_phc(), text);
            assert_eq!(Hash::nobodys(hash.cost()).cost(), hash.cost());
        }
    }

    proptest! {
        #[test]
        fn what_is_missing_to_a_dearer_one_is_a_cost_of_its_own(
            cheap in (8..=MEMORY_KIB_MAX, any::<u32>()),
            dear in (8..=MEMORY_KIB_MAX, any::<u32>()),
        ) {
            let cost = |(memory_kib, passes)| {
                let most = COST_MAX as u32 / memory_kib;
                Cost { memory_kib, passes: 1 + passes % most, lanes: 1 }
            };
            let (cheap, dear) = (cost(cheap), cost(dear));
            let missing = dear.work().saturating_sub(cheap.work());
            let (work, passes) = cheap.up_to(dear).map_or((0, 1), |more| {
                assert!(more.check().is_ok() && more.memory_kib <= dear.memory_kib.max(8));
                (more.work(), u64::from(more.passes))
            });
            prop_assert!(work <= missing && missing - work < passes.max(8), "{missing} {work}");
        }
    }

    #[test]
    fn one_that_was_made_is_taken_and_shown_to_nobody() {
        let hash = Hash::of(b"tulip", [7; 16], CHEAP);
        let again = Hash::parse(&hash.to_phc()).expect("its own form");
        assert!(again == hash && again.is_of(b"tulip"));
        assert_ne!(hash.to_phc(), Hash::of(b"tulip", [8; 16], CHEAP).to_phc());
        let shown = format!("{hash:?}");
        assert!(
            !shown.contains("BwcH") && shown.contains("passes: 1"),
            "{shown}"
        );
        assert!(Cost::default().check().is_ok());
    }

    #[test]
    fn what_would_cost_too_much_is_refused_by_its_parameters() {
        let refused = |cost: &str| {
            let text = format!(
                "$argon2id$v=19${cost}$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
            );
            Hash::parse(&text).expect_err(cost)
        };
        for (cost, why) in [
            (
                "m=4194304,t=1,p=1",
                "m=4194304; expected 8 to 65536 KiB of memory",
            ),
            (
                "m=65537,t=1,p=1",
                "m=65537; expected 8 to 65536 KiB of memory",
            ),
            (
                "m=65536,t=5,p=1",
                "t=5; expected 1 to 4 passes over so much memory",
            ),
            (
                "m=19456,t=4294967295,p=1",
                "t=4294967295; expected 1 to 13 passes over so much memory",
            ),
            (
                "m=19456,t=0,p=1",
                "t=0; expected 1 to 13 passes over so much memory",
            ),
            ("m=8,t=1,p=2", "m=8; expected 16 to 65536 KiB of memory"),
            ("m=19456,t=2,p=0", "p=0; expected 1 to 16 lanes"),
            (
                "m=19456,t=2,p=16777215",
                "p=16777215; expected 1 to 16 lanes",
            ),
        ] {
            assert_eq!(refused(cost), why);
        }
        for cost in [
            "m=1",
            "",
            "m=19456,t=2,p=1,x=1",
            "m=+9,t=2,p=1",
            "t=2,m=19456,p=1",
            "m=99999999999,t=1,p=1",
        ] {
            assert!(
                refused(cost).starts_with("expected $argon2id$v=19$m="),
                "{cost}"
            );
        }
    }

    #[test]
    fn other_forms_are_refused_without_their_hash() {
        for (text, why) in [
            (
                "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$c2VjcmV0",
                "expected $argon2id$v=19",
            ),
            (
                "$argon2id$v=16$m=256,t=2,p=1$c29tZXNhbHQ$c2VjcmV0",
                "version \"v=16\"; expected",
            ),
            (
                "$argon2id$v=19$m=256,t=2,p=1$c2Fs$c2VjcmV0",
                "a salt of 3 bytes; expected 8 to 64",
            ),
            (
                "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$c2VjcmV0",
                "a hash of 6 bytes; expected 16",
            ),
            (
                "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ",
                "expected $argon2id$v=19",
            ),
            (
                "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$!!!!",
                "expected $argon2id$v=19",
            ),
        ] {
            let told = Hash::parse(text).expect_err(text);
            assert!(told.starts_with(why), "{told}");
            assert!(!told.contains("c2VjcmV0"));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\$argon2id\\$v=19\\$m=[0-9]{0,6},t=[0-9]{0,3},p=[0-9]{0,2}\\$[A-Za-z0-9+/]{0,30}\\$[A-Za-z0-9+/]{0,60}") {
            let _ = Hash::parse(&text);
        }
    }
}
