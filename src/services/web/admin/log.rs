//! `/log`: which lines the log has. GET tells; PUT or POST with `?filter=...` changes it until it is
//! changed again or the configuration is read again.

use percent_encoding::percent_decode_str;

use crate::http::head::RequestHead;
use crate::http::{Method, Status};
use crate::logging::{self, Filters};
use crate::services::web::reply::Refusal;

pub(super) const PATH: &str = "/log";

/// The methods of this page.
pub(super) const ALLOW: &str = "GET, HEAD, PUT, POST, OPTIONS";

/// Does what is asked, and says what holds then.
///
/// # Errors
/// No filters, or ones that are wrong: what was expected.
pub(super) fn respond(head: &RequestHead<'_>) -> Result<String, Box<Refusal>> {
    if matches!(head.method, Method::Put | Method::Post) {
        let refused = |text: String| Box::new(Refusal::told(Status::BAD_REQUEST, text));
        let filters = asked(head.target.query().unwrap_or_default()).map_err(refused)?;
        log::info!(
            "the log is changed: {} instead of {}",
            filters,
            logging::filters()
        );
        logging::set_filters(filters);
    }
    Ok(format!("{}\n", logging::filters()))
}

fn asked(query: &str) -> Result<Filters, String> {
    let Some(text) = query.strip_prefix("filter=") else {
        return Err(format!(
            "the query is {query:?}: expected filter= and a level or filters, such as \
             /log?filter=debug or /log?filter=info,netlab_reactor::dns=trace"
        ));
    };
    let text = percent_decode_str(text).decode_utf8_lossy();
    Filters::parse(&text).map_err(|wrong| wrong.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_filters() {
        let right = asked("filter=info%2Cnetlab_reactor::dns=trace").map(|f| f.to_string());
        assert_eq!(right.as_deref(), Ok("info,netlab_reactor::dns=trace"));
        for wrong in [
            "",
            "filter",
            "filter=",
            "level=debug",
            "filter=debgu",
            "filter=info&x=1",
        ] {
            let told = asked(wrong).expect_err(wrong);
            assert!(told.contains("expected"), "{told}");
        }
    }
}
