//! Message heads, lent by a pool per worker so that idle connections hold no room for any.

use super::spares::Spares;
use engine::Head;
use std::cell::RefCell;

/// Spare heads kept per worker: enough for every connection of a busy one.
const SPARES: usize = 1024;

thread_local! {
    static POOL: RefCell<Spares<Head>> = const { RefCell::new(Spares::new(SPARES)) };
}

/// Makes sure that `head` has room.
pub fn lend(head: &mut Head) {
    if !head.has_room()
        && let Some(spare) = POOL.with_borrow_mut(Spares::take)
    {
        *head = spare;
    }
}

/// Takes back the room of `head`, whose message is over.
pub fn give(head: &mut Head) {
    if head.has_room() {
        let mut head = std::mem::take(head);
        head.clear();
        if !head.is_huge() {
            POOL.with_borrow_mut(|pool| pool.give(head));
        }
    }
}

/// See [`Spares::trim`].
pub fn trim() {
    POOL.with_borrow_mut(Spares::trim);
}
