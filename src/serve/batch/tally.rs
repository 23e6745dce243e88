//! How often something was done, and how long it took in all.

use std::time::Duration;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub count: u64,
    pub took: Duration,
}

impl Tally {
    pub fn add(&mut self, took: Duration) {
        self.count += 1;
        self.took += took;
    }
}
