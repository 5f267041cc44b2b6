//! `/cache.json`: what each store of responses holds, how much it may, and what was counted of it.

use serde_json::{Value, json};

use crate::cache::store::{Store, Stores};

/// The whole page: an array with an object for each store.
pub(super) fn page(stores: &Stores) -> String {
    let stores: Value = stores.iter().map(of_store).collect();
    format!("{stores}\n")
}

fn of_store(store: &Store) -> Value {
    let (sums, settings) = (store.sums(), store.settings());
    let counts = sums.counts;
    json!({
        "dir": settings.dir.to_string_lossy(),
        "is_on_disk": store.is_on_disk(),
        "is_all_known": store.is_all_known(),
        "objects": sums.objects,
        "max_objects": settings.objects_max,
        "bytes": sums.bytes,
        "max_bytes": settings.bytes_max,
        "parts": sums.parts,
        "part_bytes": sums.part_bytes,
        "objects_in_memory": sums.warm_objects,
        "bytes_in_memory": sums.warm_bytes,
        "max_memory_bytes": settings.memory_bytes_max,
        "index_bytes": sums.index_bytes,
        "bans": sums.bans,
        "fetches": store.fetches_under_way(),
        "stored": counts.stored,
        "evicted": counts.evicted,
        "loaded": counts.loaded,
        "purged": counts.purged,
        "failed": counts.failed,
    })
}
