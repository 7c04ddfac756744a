//! What came from elsewhere is not believed to be without mistakes: another version of the agent may have made it.

use std::sync::Arc;

use crate::model::Desired;
use crate::model::validate::validate;
use crate::source::{Note, sift};

/// The last picture from elsewhere, and what is left of it.
#[derive(Debug, Default)]
pub struct Sound {
    seen: Option<Arc<Desired>>,
    left: Arc<Desired>,
    notes: Vec<Note>,
}

impl Sound {
    /// The picture without what is wrong with it; the very same where nothing is.
    pub fn of(&mut self, desired: &Arc<Desired>) -> Arc<Desired> {
        let seen = self.seen.as_ref();
        if !seen.is_some_and(|seen| Arc::ptr_eq(seen, desired)) {
            self.seen = Some(Arc::clone(desired));
            (self.left, self.notes) = if validate(desired).is_empty() {
                (Arc::clone(desired), Vec::new())
            } else {
                let (left, notes) = sift::sift((**desired).clone());
                (Arc::new(left), notes)
            };
            for note in &self.notes {
                tracing::warn!("{}; {}", note.what, note.consequence);
            }
        }
        Arc::clone(&self.left)
    }

    /// What was wrong with it.
    pub fn notes(&self) -> Vec<Note> {
        self.notes.clone()
    }
}
