//! This process's place among those of its run, in the variables that torchrun and Kubernetes set.
//!
//! The variables are the field's own, without the `RESTAIN_TRAIN_` of every other option: whatever
//! starts the processes of a PyTorch run starts those of `restain-train` as well.

use anyhow::{Context, Result, ensure};

use restain_torch::place::Place;

/// How a process finds the others. Without any of it a run has one process.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Several processes, one a GPU")]
pub(crate) struct WorldArgs {
    /// Train with this many processes
    #[arg(long, env = "WORLD_SIZE", default_value_t = 1)]
    pub world_size: usize,
    /// Number this process, from 0, among all of the run; process 0 writes state and bundle
    #[arg(long, env = "RANK")]
    pub rank: Option<usize>,
    /// Number this process, from 0, among those of this machine: it uses the GPU of that number
    #[arg(long, env = "LOCAL_RANK", default_value_t = 0)]
    pub local_rank: usize,
    /// Connect to process 0 on this host
    #[arg(long, env = "MASTER_ADDR")]
    pub master_addr: Option<String>,
    /// Connect to process 0 at this TCP port, which must be free on its host
    #[arg(long, env = "MASTER_PORT")]
    pub master_port: Option<u16>,
    /// True where torchrun's agent, and not process 0, listens at that port
    #[arg(long, env = "TORCHELASTIC_USE_AGENT_STORE", hide = true)]
    pub agent_store: Option<String>,
    /// Which start of the same processes this is, so that a later one does not read what an earlier
    /// one left there
    #[arg(long, env = "TORCHELASTIC_RESTART_COUNT", hide = true)]
    pub restart_count: Option<String>,
}

impl WorldArgs {
    /// `None` for a run of one process.
    pub(crate) fn place(&self) -> Result<Option<Place>> {
        let size = self.world_size;
        ensure!(size > 0, "WORLD_SIZE is 0, and must be at least 1");
        if size == 1 {
            return Ok(None);
        }
        let missing = |name: &str| {
            format!(
                "WORLD_SIZE is {size}, and {name} is missing: set RANK, MASTER_ADDR and \
                MASTER_PORT too"
            )
        };
        let rank = self.rank.with_context(|| missing("RANK"))?;
        ensure!(rank < size, "RANK is {rank}, and must be less than WORLD_SIZE, {size}");
        Ok(Some(Place {
            rank,
            size,
            address: self.master_addr.clone().with_context(|| missing("MASTER_ADDR"))?,
            port: self.master_port.with_context(|| missing("MASTER_PORT"))?,
            serves: rank == 0 && self.agent_store.as_deref() != Some("True"),
            attempt: format!("restain/{}", self.restart_count.as_deref().unwrap_or("0")),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> WorldArgs {
        WorldArgs {
            world_size: 2,
            rank: Some(0),
            local_rank: 0,
            master_addr: Some("node-0".into()),
            master_port: Some(29500),
            agent_store: None,
            restart_count: None,
        }
    }

    #[test]
    fn one_process_needs_no_place_and_many_need_all_of_it() {
        assert_eq!(WorldArgs { world_size: 1, rank: None, ..args() }.place().unwrap(), None);
        let refused = |args: WorldArgs| args.place().unwrap_err().to_string();
        assert!(refused(WorldArgs { rank: None, ..args() }).contains("RANK is missing"));
        assert!(
            refused(WorldArgs { rank: Some(2), ..args() })
                .contains("RANK is 2, and must be less than WORLD_SIZE, 2")
        );
        assert!(
            refused(WorldArgs { master_port: None, ..args() }).contains("MASTER_PORT is missing")
        );
        assert!(refused(WorldArgs { world_size: 0, ..args() }).contains("WORLD_SIZE is 0"));
    }

    #[test]
    fn process_0_listens_unless_torchruns_agent_does() {
        let serves = |args: WorldArgs| args.place().unwrap().unwrap().serves;
        assert!(serves(args()));
        assert!(!serves(WorldArgs { rank: Some(1), ..args() }));
        assert!(!serves(WorldArgs { agent_store: Some("True".into()), ..args() }));
    }
}
