//! Message heads, lent by a pool per worker so that idle connections hold no room for any.

use engine::Head;
use std::cell::RefCell;

/// Spare heads kept per worker.
const SPARES: usize = 64;

thread_local! {
    static POOL: RefCell<Vec<Head>> = const { RefCell::new(Vec::new()) };
}

/// Makes sure that `head` has room.
pub fn lend(head: &mut Head) {
    if !head.has_room()
        && let Some(spare) = POOL.with_borrow_mut(Vec::pop)
    {
        *head = spare;
    }
}

/// Takes back the room of `head`, whose message is over.
pub fn give(head: &mut Head) {
    if head.has_room() {
        let mut head = std::mem::take(head);
        head.clear();
        POOL.with_borrow_mut(|pool| {
            if pool.len() < SPARES && !head.is_huge() {
                pool.push(head);
            }
        });
    }
}
