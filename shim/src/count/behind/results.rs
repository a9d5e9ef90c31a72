//! A result of a request becomes bytes, or an error, in the counters.

use crate::{
    count::{
        behind::gap::Gap,
        targets::{charge_behind, opened_behind},
    },
    record::counters::Shared,
};
use guest::requests::{Requests, Returned};

/// A result has come for a request of this table: its bytes, or its error.
pub fn returned(thread: &Shared, requests: &mut Requests, key: u64, result: i64, more: bool) {
    let Some(Returned { request, is_ambiguous }) = requests.returned(key, more) else { return };
    if is_ambiguous {
        Gap::EqualKeys.tell();
    }
    let mut halves = request.halves;
    if request.opens {
        halves[0] = opened_behind(result);
    }
    // A call that was not told yet: that of a file which is known only now, and each of several results.
    let calls = u64::from(request.opens || request.is_multiple);
    for half in halves.into_iter().flatten() {
        charge_behind(thread, &half, calls, request.bytes(result), u64::from(result < 0));
    }
}
