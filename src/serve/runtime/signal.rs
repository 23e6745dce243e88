//! What ends a server from outside: SIGTERM from whatever runs it, Ctrl-C from a person.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Who asked, which decides how patient the end is and what it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Terminate,
    Interrupt,
}

impl Stop {
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Terminate => 0,
            Self::Interrupt => 130,
        }
    }
}

pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Those that would end the process if they were not handled: a terminal that is closed, and
    /// what other servers reopen their logs on. They mean nothing here: files are read again when
    /// they change.
    without_meaning: [Signal; 3],
}

impl Signals {
    /// # Errors
    /// When the process may not listen for signals.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            without_meaning: [
                signal(SignalKind::hangup())?,
                signal(SignalKind::user_defined1())?,
                signal(SignalKind::user_defined2())?,
            ],
        })
    }

    /// Waits for the first of them. A second one ends the process at once.
    pub async fn asked_to_stop(mut self) -> Stop {
        let stop = self.next().await;
        tokio::spawn(async move {
            let again = self.next().await;
            tracing::warn!("second signal: exiting now");
            std::process::exit(i32::from(again.exit_status().max(1)));
        });
        stop
    }

    async fn next(&mut self) -> Stop {
        let [hangup, user1, user2] = &mut self.without_meaning;
        loop {
            let name = tokio::select! {
                _ = self.terminate.recv() => return Stop::Terminate,
                _ = self.interrupt.recv() => return Stop::Interrupt,
                _ = hangup.recv() => "SIGHUP",
                _ = user1.recv() => "SIGUSR1",
                _ = user2.recv() => "SIGUSR2",
            };
            tracing::info!(name, "a signal that means nothing to this server");
        }
    }
}
