//! Parts are forgotten as wholes are, by whoever says so, and are counted.

use super::*;

const FIELDS: &str = "Cache-Control: max-age=60\r\nETag: \"1\"\r\nCache-Tag: one, two\r\n\
                      Cache-Groups: \"g\"\r\n";

/// Of `len` bytes under a strong tag the first half came, and no more will.
fn half_of(bed: &mut Bed, path: &str, len: usize) {
    let id = bed.lead(path);
    let fields = format!("{FIELDS}Content-Length: {len}\r\n");
    assert!(bed.begin(id, object(&fields, Some(len))));
    bed.take_all(id, &body(len, 5)[..len / 2]);
    bed.cut(id);
}

/// Says that what is kept for [`A`] is to be forgotten.
type Forget = fn(&mut Bed);

fn ban(bed: &mut Bed, scope: Scope) {
    bed.wall_ms += 1;
    let (store, mut hands) = bed.store();
    assert!(store.ban(scope, session(9), &mut hands).is_pending());
}

const WAYS: [(&str, Forget); 5] = [
    ("its key", |bed| {
        let key = bed.key(A);
        // It may wait for its file to be written, and then for that to be removed.
        let mut asked = (0..3).map(|_| {
            let (store, mut hands) = bed.store();
            let count = store.purge(key, session(9), &mut hands);
            bed.settle();
            count
        });
        let count = asked.find(Poll::is_ready);
        assert_eq!(count, Some(Poll::Ready(Ok(1))));
    }),
    ("a prefix", |bed| {
        ban(bed, Scope::Prefix("GET http://h.test/a".to_owned()));
    }),
    ("a tag", |bed| {
        let tags = vec!["two".to_owned()];
        ban(bed, Scope::Tags("GET http://h.test/".to_owned(), tags));
    }),
    ("a group", |bed| {
        bed.wall_ms += 1;
        let origin = "GET http://h.test/".to_owned();
        let (store, mut hands) = bed.store();
        store.invalidate_groups(origin, vec!["g".to_owned()], &mut hands);
    }),
    ("a change at its origin", |bed| {
        let key = bed.key(A);
        let (store, mut hands) = bed.store();
        store.invalidate(key, &mut hands);
    }),
];

/// Where the part is when it is to be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    /// In memory, and in a file.
    Kept,
    /// In a file that an earlier process wrote.
    OnDisk,
    /// In a file that has not got its name.
    BeingNamed,
}

#[test]
fn a_part_is_forgotten_by_its_key_a_prefix_a_tag_a_group_and_a_change_at_its_origin() {
    for (way, forget) in WAYS {
        for len in [100, 100 * KIB] {
            for place in [Where::Kept, Where::OnDisk, Where::BeingNamed] {
                let mut bed = Bed::new();
                half_of(&mut bed, A, len);
                if place != Where::BeingNamed {
                    bed.settle();
                    assert_eq!(bed.files().len(), 1);
                }
                if place == Where::OnDisk {
                    bed.restart();
                    bed.settle();
                    bed.expire(); // what was found is known
                }
                forget(&mut bed);
                let case = format!("by {way}, {len} bytes, {place:?}");
                assert!(bed.look(A, "").is_none(), "{case}");
                bed.settle();
                bed.expire();
                bed.settle();
                assert!(bed.look(A, "").is_none(), "{case}");
                assert_eq!(bed.files().len(), 0, "{case}");
                bed.assert_nothing_is_left();
                bed.restart();
                assert!(bed.look(A, "").is_none(), "{case}: it came back");
            }
        }
    }
}

/// What is kept for another URL, or carries no such tag, stays.
#[test]
fn a_part_of_something_else_stays() {
    for (way, forget) in WAYS {
        let mut bed = Bed::new();
        bed.keep("/b", &body(100, 1));
        let id = bed.lead("/c");
        let fields = "Cache-Control: max-age=60\r\nETag: \"1\"\r\nContent-Length: 100\r\n";
        assert!(bed.begin(id, object(fields, Some(100))));
        bed.take_all(id, &body(50, 5));
        bed.cut(id);
        half_of(&mut bed, A, 100);
        bed.settle();
        forget(&mut bed);
        bed.settle();
        assert!(bed.look(A, "").is_none(), "by {way}");
        let part = bed.look("/c", "").and_then(|kept| kept.part);
        assert_eq!(part.map(|part| part.range.end), Some(50), "by {way}");
        assert_eq!(bed.kept("/b"), Some(body(100, 1)), "by {way}");
    }
}

#[test]
fn parts_are_counted_beside_wholes_also_after_a_restart_and_no_more_once_they_are_whole() {
    let mut bed = Bed::new();
    bed.keep("/b", &body(100, 1));
    half_of(&mut bed, A, 100);
    half_of(&mut bed, "/c", 100 * KIB);
    for _ in 0..2 {
        bed.settle();
        let sums = bed.store().0.sums();
        assert_eq!((sums.objects, sums.parts), (3, 2));
        let longest = (bed.files().iter())
            .map(|path| fs::metadata(path).expect("a file").len())
            .max();
        assert!(Some(sums.part_bytes) > longest && sums.part_bytes < sums.bytes);
        bed.restart();
        bed.settle();
        bed.expire();
    }
    bed.keep("/c", &body(100 * KIB, 5));
    bed.settle();
    assert_eq!(bed.store().0.sums().parts, 1);
    let key = bed.key(A);
    let (store, mut hands) = bed.store();
    assert_eq!(store.invalidate(key, &mut hands), 1);
    let sums = bed.store().0.sums();
    assert_eq!((sums.parts, sums.part_bytes), (0, 0));
    bed.assert_nothing_is_left();
}
