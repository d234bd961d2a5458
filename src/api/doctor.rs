use crate::plan::drift::Report;
use crate::store::RecordError;

/// What is to be done about leftovers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cure {
    /// They are told.
    None,
    /// They are removed: what bears our mark or lies in a place of ours, and has no record. Nothing else.
    Remove,
}

/// Compares what is there with what is recorded. Only who knows machines can; who serves knows this.
pub trait Doctor: Send + Sync + 'static {
    /// Looks at everything. Blocks, as long as the host takes to list it.
    fn examine(&self, cure: Cure) -> Result<Report, RecordError>;
}
