/// Collects one element, by count.
#[derive(Default)]
pub(super) struct Inbox {
    element: Vec<u8>,
    count: usize,
}

impl Inbox {
    /// Waits for an element of `count` bytes. Nothing is reserved for it: it grows as it arrives.
    pub(super) fn expect(&mut self, count: usize) {
        self.element = Vec::new();
        self.count = count;
    }

    /// Bytes that are missing.
    pub(super) fn missing(&self) -> usize {
        self.count - self.element.len()
    }

    /// Takes what belongs to the element off `input`; the element, once it is whole.
    pub(super) fn fill(&mut self, input: &mut &[u8]) -> Option<Vec<u8>> {
        if self.count == 0 {
            return None;
        }
        let (mine, rest) = input.split_at(self.missing().min(input.len()));
        self.element.extend_from_slice(mine);
        *input = rest;
        (self.missing() == 0).then(|| {
            self.count = 0;
            std::mem::take(&mut self.element)
        })
    }

    /// [`Inbox::fill`] for an element of known length.
    pub(super) fn array<const N: usize>(element: Vec<u8>) -> [u8; N] {
        // Only ever called for an element that `expect(N)` asked for.
        let mut array = [0; N];
        array.copy_from_slice(&element);
        array
    }
}
