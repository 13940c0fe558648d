//! Remarks made while reading, bounded in number and length.

use crate::posting::limits::WARNINGS_MAX;

use super::result::Warning;
use super::words::{clean_line, cut};

/// Characters of one remark: a page's own words may be part of it.
const DETAIL_CHARS_MAX: usize = 200;

/// Collects [`Warning`]s: each once, at most [`WARNINGS_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    list: Vec<Warning>,
}

impl Warnings {
    /// Adds a remark.
    pub(crate) fn push(&mut self, code: &str, detail: impl AsRef<str>) {
        if self.list.len() >= WARNINGS_MAX {
            return;
        }
        let head: String = detail.as_ref().chars().take(2 * DETAIL_CHARS_MAX).collect();
        let detail = cut(&clean_line(&head), DETAIL_CHARS_MAX).to_owned();
        let warning = Warning { code: code.to_owned(), detail };
        if !self.list.contains(&warning) {
            self.list.push(warning);
        }
    }

    /// Everything that was remarked, in order.
    pub(crate) fn into_list(self) -> Vec<Warning> {
        self.list
    }
}
