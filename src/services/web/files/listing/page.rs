//! How a listing is written: a page for people, or JSON.

use std::fmt::{self, Write};

use super::{Row, Sort, Tally, Wanted};
use crate::http::date::put_iso;
use crate::http::negotiate::ListingFormat;
use crate::http::path::encode;
use crate::services::web::html::Html;

// Writing to a String does not fail, so what `write!` returns below is dropped.

pub(super) fn put_start(text: &mut String, wanted: &Wanted, tally: &Tally, archive: bool) {
    if wanted.format == ListingFormat::Json {
        let shown = String::from_utf8_lossy(&wanted.shown);
        let _ = write!(text, "{{\"path\":{},\"entries\":[", Json(&shown));
        return;
    }
    let _ = write!(
        text,
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Index of {0}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <style>{STYLE}</style>\n<h1>Index of ",
        Html(&wanted.shown)
    );
    let names = || {
        let all = wanted.shown.split(|&byte| byte == b'/');
        all.filter(|name| !name.is_empty())
    };
    let depth = names().count();
    for (level, name) in std::iter::once(&b""[..]).chain(names()).enumerate() {
        match depth - level {
            0 => _ = write!(text, "{}/", Html(name)),
            up => _ = write!(text, "<a href=\"{}\">{}/</a>", "../".repeat(up), Html(name)),
        }
    }
    let (before, ways, behind) = match archive {
        true => ("<form>", ARCHIVES, "</form>"),
        false => ("", "", ""),
    };
    let _ = write!(
        text,
        "</h1>\n{before}<p>{}, {}, {}{ways}</p>{behind}\n<table><thead><tr>",
        Count(tally.folders, "folder"),
        Count(tally.files, "file"),
        Size(tally.bytes)
    );
    for (sort, key, title) in [
        (Sort::Name, "name", "Name"),
        (Sort::Size, "size", "Size"),
        (Sort::Date, "date", "Modified (UTC)"),
    ] {
        let current = sort == wanted.sort;
        let (state, arrow, order) = match (current, wanted.descending) {
            (true, false) => (" aria-sort=\"ascending\"", " \u{2191}", "desc"),
            (true, true) => (" aria-sort=\"descending\"", " \u{2193}", "asc"),
            (false, _) => ("", "", "asc"),
        };
        let _ = write!(
            text,
            "<th{state}><a href=\"?sort={key}&amp;order={order}\">{title}</a>{arrow}</th>"
        );
    }
    text.push_str("</tr></thead>\n<tbody>\n");
    if wanted.shown != b"/" {
        text.push_str("<tr><td><a href=\"../\">../</a></td><td></td><td></td></tr>\n");
    }
}

pub(super) fn put_row(text: &mut String, row: &Row, format: ListingFormat) {
    let slash = if row.is_folder { "/" } else { "" };
    if format == ListingFormat::Json {
        if !text.ends_with('[') {
            text.push(',');
        }
        // A name that is no text is still found by its link.
        let (name, link) = (row.name.to_string_lossy(), encode(row.bytes_of_name()));
        let _ = write!(
            text,
            "\n{{\"name\":{},\"href\":\"./{link}{slash}\",\"kind\":",
            Json(&name)
        );
        match row.is_folder {
            true => text.push_str("\"folder\""),
            false => _ = write!(text, "\"file\",\"size\":{}", row.bytes),
        }
        text.push_str(",\"modified\":\"");
        put_iso(text, row.modified_s);
        text.push_str("\"}");
        return;
    }
    // `./`: a name such as `a:b` would be taken for another scheme without it.
    let _ = write!(
        text,
        "<tr><td><a href=\"./{}{slash}\">{}{slash}</a></td>",
        encode(row.bytes_of_name()),
        Html(row.bytes_of_name())
    );
    let size = Size(row.bytes);
    match row.is_folder {
        true => text.push_str("<td></td>"),
        false => _ = write!(text, "<td title=\"{} bytes\">{size}</td>", row.bytes),
    }
    let mut modified = String::with_capacity(20);
    put_iso(&mut modified, row.modified_s);
    let (date, time) = modified.split_once('T').unwrap_or((&modified, ""));
    let time = time.get(..5).unwrap_or("");
    let _ = writeln!(
        text,
        "<td><time datetime=\"{modified}\">{date} {time}</time></td></tr>"
    );
}

/// Behind the last row.
pub(super) fn put_end(text: &mut String, format: ListingFormat, more: bool) {
    match (format, more) {
        (ListingFormat::Json, more) => _ = writeln!(text, "\n],\"more\":{more}}}"),
        (ListingFormat::Html, true) => {
            text.push_str("</tbody></table>\n<p>There is more than is shown here.</p>\n");
        }
        (ListingFormat::Html, false) => text.push_str("</tbody></table>\n"),
    }
}

pub(super) fn put_last(text: &mut String, format: ListingFormat) {
    match format {
        ListingFormat::Json => {}
        ListingFormat::Html => text.push_str("</html>\n"),
    }
}

/// Ways to the folder with all below it. Buttons: a program that follows all links of a page, such
/// as `wget -r`, would fetch everything once more for each folder on the way to it.
const ARCHIVES: &str = "; download all: <button name=\"archive\" value=\"tar\">tar</button> \
    <button name=\"archive\" value=\"zip\">zip</button>";

/// What the page may use: its own style, told by its hash (CSP Level 3, section 8.3), and nothing
/// else.
pub(in crate::services::web::files) const POLICY: &str = "default-src 'none'; frame-ancestors 'self'; \
    style-src 'sha256-lEFfkS3zPdqCHoLS71cuUNxpCHVCR2Bc3q/ffsuNTi0='";

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:64em;margin:2em auto;padding:0 1em;\
    color:#222;background:#fff}h1{font-size:1.3em;font-weight:600;overflow-wrap:anywhere}p{color:#666}\
    table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.35em .6em;border-bottom:1px solid #e4e4e4}\
    th{font-weight:600;white-space:nowrap}td:first-child{overflow-wrap:anywhere}\
    th:nth-child(n+2),td:nth-child(n+2){text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}\
    tbody tr:hover{background:#f5f7fa}a{color:#0b57d0;text-decoration:none}a:hover{text-decoration:underline}\
    h2{font-size:1em}pre{white-space:pre-wrap;overflow-wrap:anywhere}\
    button{font:inherit;color:#0b57d0;background:none;border:1px solid #e4e4e4;border-radius:4px;cursor:pointer}\
    @media(prefers-color-scheme:dark){body{color:#ddd;background:#14161a}p{color:#999}th,td{border-color:#2c3036}\
    tbody tr:hover{background:#1d2026}a,button{color:#8ab4f8}button{border-color:#2c3036}}\
    @media(max-width:36em){th:nth-child(3),td:nth-child(3){display:none}}";

/// A text in JSON, with its quotes.
struct Json<'a>(&'a str);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self.0).map_err(|_| fmt::Error)?)
    }
}

/// A number of things.
struct Count(usize, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0 == 1 { "" } else { "s" };
        write!(f, "{} {}{plural}", self.0, self.1)
    }
}

/// A number of bytes for people: three digits and a unit.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut size = self.0 as f64;
        if self.0 < 1000 {
            return write!(f, "{} B", self.0);
        }
        for unit in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
            size /= 1024.0;
            if size < 9.995 {
                return write!(f, "{size:.2} {unit}");
            }
            if size < 99.95 {
                return write!(f, "{size:.1} {unit}");
            }
            if size < 999.5 {
                return write!(f, "{size:.0} {unit}");
            }
        }
        write!(f, "{size:.0} EiB")
    }
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_policy_lets_the_style_in() {
        let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
        assert!(POLICY.contains(&format!("'sha256-{hash}'")), "{hash}");
    }

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "0.98 KiB"),
            (1536, "1.50 KiB"),
            (10 * 1024 * 1024, "10.0 MiB"),
            (1023 * 1024, "1.00 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
