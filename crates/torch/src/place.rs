//! A process's place among those of its training run.

/// Which process this is, and where all of them connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// This process's number, from 0.
    pub rank: usize,
    /// Processes of the run.
    pub size: usize,
    /// Host where all processes connect.
    pub address: String,
    /// TCP port of that host.
    pub port: u16,
    /// Whether this process listens there.
    pub serves: bool,
    /// Name of this start of the run: a later start does not read what an earlier one left at the
    /// same address.
    pub attempt: String,
}
