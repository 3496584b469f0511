//! What is lent and given back, kept for the next to ask. As many are kept as were lately in use at once.

/// Spare things of one kind, the last given first lent: it is still in the processor's cache.
pub struct Spares<T> {
    kept: Vec<T>,
    most: usize,
    /// The fewest that were here since the last [`Spares::trim`]: nobody asked for these.
    unused: usize,
}

impl<T> Spares<T> {
    /// At most `most` are kept.
    pub const fn new(most: usize) -> Self {
        Spares { kept: Vec::new(), most, unused: 0 }
    }

    pub fn take(&mut self) -> Option<T> {
        let spare = self.kept.pop();
        self.unused = self.unused.min(self.kept.len());
        spare
    }

    pub fn give(&mut self, spare: T) {
        if self.kept.len() < self.most {
            self.kept.push(spare);
        }
    }

    pub fn count(&self) -> usize {
        self.kept.len()
    }

    /// Drops what nobody asked for since the last call.
    pub fn trim(&mut self) {
        self.kept.drain(..self.unused);
        self.unused = self.kept.len();
        if self.kept.is_empty() {
            self.kept = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_asked_for_is_dropped() {
        let mut spares = Spares::new(3);
        (0..5).for_each(|spare| spares.give(spare));
        assert_eq!(spares.count(), 3);
        spares.trim();
        assert_eq!(spares.count(), 3, "given since the last trim");
        assert_eq!(spares.take(), Some(2));
        spares.give(2);
        spares.trim();
        assert_eq!(spares.count(), 1, "two were never asked for");
        assert_eq!(spares.take(), Some(2), "the last given is kept");
        spares.trim();
        assert_eq!(spares.take(), None);
    }
}
