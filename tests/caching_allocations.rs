//! To judge a request against a stored response allocates nothing: what the allocator is asked for
//! meanwhile is counted. A file of its own, since the count is the process's.

#[path = "common/allocations.rs"]
mod counted;

use netlab_reactor::http::Method;
use netlab_reactor::http::caching::{Asks, Reuse, Rules, Terms, Times, reuse, validation, vary};
use netlab_reactor::http::head::{HeadScanner, Limits, Parsed};
use netlab_reactor::http::select::Selection;

#[test]
fn a_hit_allocates_nothing() {
    let request =
        b"GET /a HTTP/1.1\r\nHost: origin\r\nAccept-Encoding: gzip, deflate;q=0.5, br\r\n\
        Accept: text/html, */*;q=0.8\r\nUser-Agent: x (y, z)\r\nRange: bytes=2-5\r\n\
        Cache-Control: max-age=50, max-stale\r\nIf-None-Match: \"b\", W/\"c\"\r\n\r\n";
    let response = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nETag: \"a\"\r\n\
        Vary: Accept-Encoding, Accept, User-Agent, Cookie\r\nContent-Length: 9\r\n\r\n";
    let limits = Limits::default();
    let asked = HeadScanner::default().request(request, &limits);
    let stored = HeadScanner::default().response(response, &limits, Method::Get);
    let (Ok(Parsed::Complete(asked, _)), Ok(Parsed::Complete(stored, _))) = (asked, stored) else {
        panic!("no heads");
    };
    let times = Times {
        request_s: 1_000,
        response_s: 1_000,
    };
    let terms = Terms::derive(&stored, times, &Rules::default());
    let mut key = Vec::new();
    vary::put_key(&mut key, &stored.headers, &asked.headers).expect("a key");

    let before = counted::allocations();
    let matches = vary::matches(&key, &asked.headers);
    let judged = reuse(&terms, &Asks::of(&asked), 1_030);
    let selected = validation::selection(&asked, &stored.headers, &terms, 9, 1_030);
    let after = counted::allocations();

    assert!(matches && judged == Reuse::Fresh);
    assert!(matches!(selected, Selection::Part(range) if range.len() == 4));
    assert_eq!(after - before, 0, "allocations");
}
