//! Options of the programs: values with a unit, and the files that options are read from.

pub mod file;
pub mod units;
