//! What an installed program has beside it: completions for shells, and manual pages.
//!
//! Both are written from the program's own options, so that they cannot lag behind it.

use std::io::{self, Write};
use std::path::PathBuf;

pub use clap_complete::Shell;

use crate::Program;

/// Print completions for a shell, to be saved where it looks for them
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Where shells look, for one user; PROGRAM is the name of this program:
  bash  ~/.local/share/bash-completion/completions/PROGRAM
  zsh   a directory of $fpath, as _PROGRAM
  fish  ~/.config/fish/completions/PROGRAM.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// Write the manual pages of the program and its commands
#[derive(Clone, Debug, clap::Args)]
pub struct ManArgs {
    /// The directory to write to, such as ~/.local/share/man/man1; it is created
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

impl Program {
    /// Writes the completions of a shell.
    ///
    /// # Errors
    /// When `to` cannot be written to.
    pub fn write_completions(&self, shell: Shell, to: &mut impl Write) -> io::Result<()> {
        let (mut command, mut script) = (self.command().clone(), Vec::new());
        let name = command.get_name().to_owned();
        clap_complete::generate(shell, &mut command, name, &mut script);
        to.write_all(&script)
    }

    /// Writes a manual page for the program and one for each of its commands, as
    /// PROGRAM-COMMAND.1.
    ///
    /// # Errors
    /// When the directory cannot be created, or a page not be written.
    pub fn write_man_pages(&self, args: &ManArgs) -> io::Result<()> {
        std::fs::create_dir_all(&args.dir)?;
        clap_mangen::generate_to(self.command().clone(), &args.dir)
    }
}
