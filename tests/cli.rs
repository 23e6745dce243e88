//! The command line of `restain`: where options come from, what wrong use says, and what a pipe
//! gets.

use std::process::Command;

use crate::harness::{Server, restain, text};

const COMMANDS: [&str; 6] = ["serve", "augment", "load", "check", "key", "health"];

fn printed(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn rejected(mut command: Command) -> String {
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{command:?}: {said}");
    said
}

/// Returns the command with arguments separated by blanks.
fn run(arguments: &str) -> Command {
    let mut command = restain();
    command.args(arguments.split_whitespace());
    command
}

#[test]
fn a_flag_goes_before_a_variable_that_before_a_file_and_that_before_the_default() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("options.toml");
    let file_text = file.to_str().unwrap().to_owned();
    // Each command with an option that is a number and whose default is none of these, and its
    // variable.
    for (command, option, variable) in [
        ("serve", "max-tiles", "RESTAIN_MAX_TILES"),
        ("augment", "variants", "RESTAIN_AUGMENT_VARIANTS"),
        ("load", "concurrency", "RESTAIN_LOAD_CONCURRENCY"),
        ("key", "concurrency", "RESTAIN_KEY_CONCURRENCY"),
    ] {
        std::fs::write(&file, format!("{option} = 11\n")).unwrap();
        let value = |arguments: &str, environment: Option<&str>| {
            let mut command = run(&format!("{command} --print-config {arguments}"));
            environment.into_iter().for_each(|value| _ = command.env(variable, value));
            let text = printed(command);
            let line = text.lines().find(|line| line.starts_with(&format!("{option} = ")));
            line.map(|line| line.rsplit(' ').next().unwrap().to_owned())
        };
        let with_file = format!("--config {file_text}");
        let with_all = format!("{with_file} --{option} 13");
        assert_eq!(value(&with_all, Some("12")).as_deref(), Some("13"), "{command}");
        assert_eq!(value(&with_file, Some("12")).as_deref(), Some("12"), "{command}");
        assert_eq!(value(&with_file, None).as_deref(), Some("11"), "{command}");
        assert_ne!(value("", None).as_deref(), Some("11"), "{command}");
    }
}

#[test]
fn a_switch_can_be_turned_off_again() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("augment.toml");
    std::fs::write(&file, "dry-run = true\noriginals = true\n").unwrap();
    let mut command = run("augment --print-config --dry-run=false --config");
    command.arg(&file).env("RESTAIN_AUGMENT_ORIGINALS", "no");
    let text = printed(command);
    for line in ["dry-run = false", "originals = false"] {
        assert!(text.lines().any(|printed| printed == line), "{line}: {text}");
    }
}

#[test]
fn commands_do_not_read_each_others_variables() {
    let mut command = run("augment --print-config");
    command.env("RESTAIN_PRECISION", "int8").env("RESTAIN_LOAD_VARIANTS", "9");
    let text = printed(command);
    assert!(text.contains("precision = \"auto\"\n") && text.contains("variants = 1\n"), "{text}");
}

#[test]
fn what_is_printed_reads_back_to_itself() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("options.toml");
    for command in COMMANDS {
        let first = printed(run(&format!("{command} --print-config")));
        assert!(first.lines().count() > 0, "{command}");
        std::fs::write(&file, &first).unwrap();
        let again = printed(run(&format!("{command} --print-config --config {}", file.display())));
        assert_eq!(again, first, "{command}");
    }
    // Lists keep items with a comma, which flags separate items by.
    std::fs::write(&file, "forbid-domain = [\"d\", \"e, f\"]\nmax-body = \"1.5MiB\"\n").unwrap();
    let first = printed(run(&format!("serve --print-config --config {}", file.display())));
    assert!(first.contains("forbid-domain = [\"d\", \"e, f\"]\n"), "{first}");
    std::fs::write(&file, &first).unwrap();
    let again = printed(run(&format!("serve --print-config --config {}", file.display())));
    assert_eq!(again, first);
}

#[test]
fn a_secret_is_not_printed() {
    let mut command = run("load --print-config");
    command.env("RESTAIN_LOAD_KEY", "rst_secret");
    let text = printed(command);
    assert!(text.contains("# key is set, and not shown\n") && !text.contains("rst_"), "{text}");
    let mut command = run("load --help");
    command.env("RESTAIN_LOAD_KEY", "rst_secret");
    assert!(!printed(command).contains("rst_secret"));
}

#[test]
fn wrong_use_names_the_option_as_it_was_given_and_its_value() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("serve.toml");
    let said = |text: &str| {
        std::fs::write(&file, text).unwrap();
        rejected(run(&format!("serve --config {}", file.display())))
    };
    let path = file.display();
    for (text, message) in [
        ("max-batch = 2000", "`max-batch = 2000`: must be from 0 to 1024"),
        ("request-timeout = 30", "`request-timeout = 30`: missing unit, for example 30s"),
        ("devices = \"gpu\"", "`devices = \"gpu\"`: "),
        ("log-format = \"xml\"", "`log-format = \"xml\"`: must be one of text, json"),
        ("max-tiles = { a = 1 }", "`max-tiles = { a = 1 }`: must be a string"),
    ] {
        let said = said(text);
        assert!(said.starts_with(&format!("restain: {path}: {message}")), "{said}");
    }
    let unknown = said("max-bach = 2");
    assert!(unknown.contains(&format!("{path}: unknown option `max-bach`")), "{unknown}");
    assert!(unknown.contains(" max-batch,"), "{unknown}");
    assert!(said("=").contains("not valid TOML"));

    for (flags, message) in [
        ("serve --max-batch 2x", "`--max-batch 2x`: not a whole number"),
        ("serve --max-tiles 0", "`--max-tiles 0`: must be at least 1"),
        ("serve --http here", "`--http here`: not an address"),
        ("serve --trace-share=1.5", "`--trace-share 1.5`: must be from 0 to 1"),
        ("serve --max-body 64megs", "`--max-body 64megs`: not a size in bytes"),
        ("health --timeout 30", "`--timeout 30`: missing unit, for example 30s"),
        ("augment in out --method vitt", "`--method vitt`: "),
        ("key name --burst 5", "--burst needs --requests-per-second"),
    ] {
        let said = rejected(run(flags));
        assert!(said.starts_with(&format!("restain: {message}")), "{flags}: {said}");
    }
    let mut command = run("serve");
    command.env("RESTAIN_MAX_BATCH", "2x");
    let said = rejected(command);
    assert_eq!(said, "restain: `RESTAIN_MAX_BATCH=2x`: not a whole number\n");
}

#[test]
fn a_pipe_gets_no_colour_codes() {
    for command in COMMANDS {
        let help = printed(run(&format!("{command} --help")));
        assert!(!help.contains('\x1b') && help.contains("Configuration:"), "{command}: {help}");
    }
    let server = Server::start(&[]);
    let log = server.log();
    assert!(!log.is_empty() && !log.contains('\x1b'), "{log}");
}

#[test]
fn help_in_a_pipe_is_no_wider_than_a_page() {
    for command in COMMANDS {
        let help = printed(run(&format!("{command} --help")));
        let widest = help.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(widest.chars().count() <= 100, "{command}: {widest}");
    }
}

#[test]
fn the_version_names_the_onnx_runtime_that_is_found() {
    for flag in ["--version", "-V"] {
        let text = printed(run(flag));
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some(concat!("restain ", env!("CARGO_PKG_VERSION"))), "{text}");
        let found = lines.next_back().and_then(|line| line.strip_prefix("ONNX Runtime "));
        assert!(found.is_some_and(|path| std::path::Path::new(path).is_file()), "{text}");
    }
    let mut command = run("--version");
    command.env("ORT_DYLIB_PATH", "/nowhere.so");
    let text = printed(command);
    assert!(text.contains("\nONNX Runtime not found: ") && text.contains("/nowhere.so"), "{text}");
}

#[test]
fn completions_and_manual_pages_have_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(run(&format!("completions {shell}")));
        for command in COMMANDS {
            assert!(script.contains(command), "{shell}: {command}");
        }
        assert!(script.contains("cache-memory"), "{shell}");
    }
    let home = tempfile::tempdir().unwrap();
    let pages = home.path().join("share/man/man1");
    printed(run(&format!("man {}", pages.display())));
    let page = |name: &str| std::fs::read_to_string(pages.join(name)).unwrap();
    assert!(page("restain.1").contains("restain\\-serve(1)"));
    for command in COMMANDS {
        let text = page(&format!("restain-{command}.1"));
        assert!(text.contains("RESTAIN_") && text.starts_with(".ie"), "{command}");
    }
    let said = rejected(run("completions csh"));
    assert!(said.contains("bash") && said.contains("csh"), "{said}");
}
