//! Two processes of `restain-train` that train one model. Compiled with the feature `collectives`
//! only.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use restain_bundle::Weights;

use super::fit::{phantom, restain_train, run};

const FIT: &str =
    "fit --recipe cross --data tiles --preset tiny --batch 2 --mixes 1 --device cpu --seed 5";

/// One of the processes, with its log.
struct Process {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Process {
    /// Waits for its end: exit status, and what it said until then.
    fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.log.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }

    fn signal(&self, name: &str) {
        assert!(
            Command::new("kill")
                .args([name, &self.child.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
    }
}

/// Two processes that meet at a free port.
fn pair(home: &Path, arguments: [&str; 2]) -> [Process; 2] {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    [0, 1].map(|rank| {
        let mut command = restain_train(home, arguments[rank]);
        command
            .env("WORLD_SIZE", "2")
            .env("RANK", rank.to_string())
            .env("MASTER_ADDR", "127.0.0.1")
            .env("MASTER_PORT", &port);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Process { child, log }
    })
}

/// Both at the beginning of their loop, with what they said first.
fn begun(mut processes: [Process; 2]) -> [Process; 2] {
    for process in &mut processes {
        let mut line = String::new();
        process.log.read_line(&mut line).unwrap();
        assert!(line.contains("of 2; state in"), "{line}");
    }
    processes
}

fn succeed(processes: [Process; 2]) {
    for process in processes {
        let (status, said) = process.end();
        assert_eq!(status, Some(0), "{said}");
    }
}

fn weights(home: &Path, name: &str) -> Weights {
    Weights::read(&home.join("models").join(name).join("1/weights.safetensors")).unwrap()
}

#[test]
fn two_processes_train_what_one_with_twice_the_batches_trains_also_when_stopped_in_between() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    phantom(home);
    run(home, &format!("{FIT} --steps 30 --grad-accum-steps 2 --out models/one/1"));

    let both = format!("{FIT} --steps 30 --out models/two/1");
    succeed(pair(home, [&both, &both]));
    assert_eq!(weights(home, "two"), weights(home, "one"));

    let both = format!("{FIT} --steps 30 --out models/stopped/1");
    let processes = begun(pair(home, [&both, &both]));
    processes[1].signal("-INT");
    for process in processes {
        let (status, said) = process.end();
        assert_eq!(status, Some(130), "{said}");
    }
    let kept = std::fs::read(home.join("runs/stopped-1/checkpoint.safetensors")).unwrap();
    succeed(pair(home, ["resume runs/stopped-1 --device cpu"; 2]));
    assert_eq!(weights(home, "stopped"), weights(home, "one"));

    // The run is its batches, not who computes them.
    std::fs::write(home.join("runs/stopped-1/checkpoint.safetensors"), kept).unwrap();
    std::fs::remove_dir_all(home.join("models/stopped")).unwrap();
    run(home, "resume runs/stopped-1 --device cpu");
    assert_eq!(weights(home, "stopped"), weights(home, "one"));
}

#[test]
fn a_process_that_is_killed_ends_the_other_with_one_line() {
    let home = tempfile::tempdir().unwrap();
    phantom(home.path());
    let both = format!("{FIT} --steps 1000000 --out models/killed/1");
    let [first, second] = begun(pair(home.path(), [&both, &both]));
    second.signal("-KILL");
    assert_eq!(second.end().0, None);
    let (status, said) = first.end();
    assert_eq!(status, Some(1), "{said}");
    let lines: Vec<&str> = said.lines().filter(|line| !line.contains("INFO")).collect();
    assert!(
        lines.len() == 1 && lines[0].contains("another process of this run has ended"),
        "{said}"
    );
}

#[test]
fn processes_with_different_options_end_with_an_error() {
    let home = tempfile::tempdir().unwrap();
    phantom(home.path());
    let [one, other] = [4, 5].map(|steps| format!("{FIT} --steps {steps} --out models/apart/1"));
    let [first, second] = pair(home.path(), [&one, &other]).map(Process::end);
    assert_eq!((first.0, second.0), (Some(1), Some(1)));
    assert!(second.1.contains("process 1 has another run than process 0"), "{}", second.1);
    assert!(first.1.contains("the processes have not all the same run"), "{}", first.1);
}

#[test]
fn batches_that_cannot_be_shared_are_refused() {
    let home = tempfile::tempdir().unwrap();
    phantom(home.path());
    run(home.path(), &format!("{FIT} --steps 2 --grad-accum-steps 3 --out models/three/1"));
    std::fs::remove_dir_all(home.path().join("models")).unwrap();
    for process in pair(home.path(), ["resume runs/three-1 --steps 4 --device cpu"; 2]) {
        let (status, said) = process.end();
        assert_eq!(status, Some(1), "{said}");
        assert!(
            said.contains("made of 3 batches") && said.contains("which 2 processes cannot share"),
            "{said}"
        );
    }
}
