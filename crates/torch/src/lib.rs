//! What libtorch has and `tch` lacks, and the optimiser.

pub mod adamw;
pub mod device;
pub mod native;
pub mod place;
