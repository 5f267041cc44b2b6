//! Which files of a folder are sent compressed, though nobody compressed them in advance.

use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::problem::nearest;
use super::section::{Section, is_a, string};
use crate::http::negotiate::Coding;

/// The bounds of both sizes. A larger file would keep others waiting, and its form takes memory.
const BYTES: RangeInclusive<u64> = 0..=64 << 20;

/// Compression on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompressConfig {
    /// The codings that are made, the preferred first; none, and nothing is compressed. Key
    /// `compress` (`true` for zstd, br and gzip, a name or a list of names), default false.
    pub codings: Vec<Coding>,
    /// Bytes of the smallest file that is compressed. Key `min_compress_bytes`, default 1 KiB.
    pub bytes_min: u64,
    /// Bytes of the largest. Key `max_compress_bytes`, default 1 MiB.
    pub bytes_max: u64,
    /// Media types, without parameters, that are compressed beside those of
    /// [`crate::http::compress::is_compressible`]. Key `compress_types`, default none.
    pub types: Vec<String>,
}

impl Default for CompressConfig {
    fn default() -> CompressConfig {
        CompressConfig {
            codings: Vec::new(),
            bytes_min: 1024,
            bytes_max: 1 << 20,
            types: Vec::new(),
        }
    }
}

/// The codings that can be made, in the order in which they are preferred unless the file says
/// otherwise: at the levels of [`crate::http::compress`] zstd makes about as little as br of most
/// contents, in less than half the time.
const CODINGS: [Coding; 3] = [Coding::Zstd, Coding::Br, Coding::Gzip];

impl CompressConfig {
    /// Reads the keys.
    pub(super) fn read(section: &mut Section<'_>) -> CompressConfig {
        let mut config = CompressConfig::default();
        let expected = r#"true, false, or any of "zstd", "br" and "gzip""#;
        let flag = section.parsed("compress", expected, |value| match value {
            DeValue::Boolean(true) => Ok(Some(CODINGS.to_vec())),
            DeValue::Boolean(false) => Ok(Some(Vec::new())),
            DeValue::String(_) => coding(value).map(|coding| Some(vec![coding])),
            DeValue::Array(_) => Ok(None),
            other => Err(is_a(other)),
        });
        let codings = match flag {
            Some(None) => section.list("compress", expected, coding),
            flag => flag.flatten(),
        };
        config.codings = codings.unwrap_or_default();
        section.size("min_compress_bytes", BYTES, &mut config.bytes_min);
        section.size("max_compress_bytes", BYTES, &mut config.bytes_max);
        if config.bytes_min > config.bytes_max {
            let what = format!(
                "`max_compress_bytes` is {}, below `min_compress_bytes`, {}; expected at least that",
                config.bytes_max, config.bytes_min
            );
            let keys = ["max_compress_bytes", "min_compress_bytes"];
            let given = keys.into_iter().find(|key| section.has(key));
            section.problem(section.span(given.unwrap_or(keys[0])), what);
        }
        let expected = r#"a media type such as "application/x-model""#;
        let types = section.list_or_one("compress_types", expected, |value| {
            let kind = string(value)?;
            let is_token = |part: &str| crate::http::is_token(part.as_bytes());
            match kind.split_once('/') {
                Some((left, right)) if is_token(left) && is_token(right) => Ok(kind.to_owned()),
                _ => Err(format!("is {kind:?}")),
            }
        });
        config.types = types.unwrap_or_default();
        config
    }
}

/// A coding by its name.
fn coding(value: &DeValue<'_>) -> Result<Coding, String> {
    let name = string(value)?;
    let known = CODINGS.into_iter().find(|coding| coding.name() == name);
    known.ok_or_else(|| match nearest(name, CODINGS.map(Coding::name)) {
        Some(near) => format!("is {name:?}, probably meant as {near:?}"),
        None => format!("is {name:?}"),
    })
}
