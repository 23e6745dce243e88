//! Options by flag, variable, file and preset, and those that cannot be meant.

use super::fit::{phantom, refusal, restain_train, run};

#[test]
fn a_flag_goes_before_the_environment_that_before_the_file_and_that_before_a_preset() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let file = "data = 'tiles'\ndata-preset = 'camelyon17-wilds'\nseed = 1\nsteps = 2\nbatch = \
        4\nexclude = ['a.png', 'b.png']\n";
    std::fs::write(home.join("fit.toml"), file).unwrap();
    let print = |file: &str, more: &str| {
        let mut command =
            restain_train(home, &format!("fit --config {file} {more} --print-config"));
        let command = command.env("RESTAIN_TRAIN_SEED", "2").env("RESTAIN_TRAIN_STEPS", "3");
        // The server's.
        let output = command.env("RESTAIN_PRECISION", "int8").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = print("fit.toml", "--seed 4 --depth 1");
    for line in [
        "seed = 4",
        "# precision is not set",
        "depth = 1",
        "steps = 3",
        "batch = 4",
        "data = \"tiles\"",
        "exclude = [\"a.png\", \"b.png\"]",
        "preset = \"base\"",
        "mean = \"0.7441,0.5895,0.7214\"",
        "recipe = \"paired\"",
    ] {
        assert!(text.lines().any(|held| held == line), "no `{line}` in:\n{text}");
    }
    std::fs::write(home.join("printed.toml"), &text).unwrap();
    assert_eq!(print("printed.toml", "--seed 4"), text);
    assert!(!home.join("models").exists() && !home.join("runs").exists());
}

#[test]
fn a_file_of_options_is_enough_to_train_and_the_provenance_says_what_it_said() {
    let home = tempfile::tempdir().unwrap();
    phantom(home.path());
    let file = "data = 'tiles'\nout = 'models/filed/1'\npreset = 'tiny'\nsteps = 2\nbatch = \
        4\nmixes = 1\ndevice = 'cpu'\n";
    std::fs::write(home.path().join("fit.toml"), file).unwrap();
    run(home.path(), "fit --config fit.toml");
    let manifest =
        restain_bundle::Bundle::open(&home.path().join("models/filed/1")).unwrap().manifest;
    let command = manifest.provenance["command"].as_str().unwrap();
    assert!(
        command.starts_with("restain-train fit --config fit.toml") && command.contains("--steps=2"),
        "{command}"
    );
}

#[test]
fn wrong_options_end_with_status_2() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("wrong.toml"), "bacth = 4").unwrap();
    std::fs::write(home.path().join("value.toml"), "batch = 0").unwrap();
    for (arguments, said) in [
        ("fit --config wrong.toml --print-config", "wrong.toml: unknown option `bacth`"),
        ("fit --config value.toml --print-config", "value.toml: `batch = 0`: must be at least 1"),
        ("fit --data d --out m/n/1 --batch 4x", "`--batch 4x`: not a whole number"),
        ("fit --data d --out m/n/1 --mean .5,.5,.5", "--mean is given without --std"),
        ("fit --data d --out m/a:b/1", "a:b"),
        ("fit --config none.toml --print-config", "none.toml"),
        ("fit --data-preset mnist", "camelyon17-wilds"),
        ("fit --preset tiny", "--data"),
    ] {
        let output = restain_train(home.path(), arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && text.contains(said), "{arguments}: {text}");
    }
}

#[test]
fn the_preset_of_a_toy_has_the_length_of_its_training_and_options_go_before_it() {
    let home = tempfile::tempdir().unwrap();
    let print = |more: &str| {
        let fit = format!("fit --data d --out m/n/1 {more} --print-config");
        String::from_utf8(restain_train(home.path(), &fit).output().unwrap().stdout).unwrap()
    };
    let toy = print("--preset toy --batch 8");
    assert!(toy.contains("steps = 600\n") && toy.contains("batch = 8\n"), "{toy}");
    assert!(!print("--preset small").contains("steps = 600"));
    let init = "init --preset toy --out m/n/1 --print-config";
    assert!(restain_train(home.path(), init).output().unwrap().status.success());
}

#[test]
fn what_cannot_be_meant_is_refused_in_one_line_before_anything_is_trained() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    phantom(home);
    std::fs::create_dir_all(home.join("empty")).unwrap();
    std::fs::write(home.join("file"), "no folder").unwrap();
    let white = image::RgbImage::from_pixel(48, 48, image::Rgb([250; 3]));
    for name in ["one/a.png", "two/a.png", "two/b.png"] {
        std::fs::create_dir_all(home.join("white").join(name).parent().unwrap()).unwrap();
        white.save(home.join("white").join(name)).unwrap();
    }
    for (options, said) in [
        ("--data empty", "empty holds no images"),
        ("--embed-dim 100", "embed_dim"),
        ("--image-size 33", "33"),
        ("--match-weight 1 --batch 1", "--batch is 1"),
        ("--mean .5,.5,.5", "--mean is given without --std"),
        ("--learning-rate 0", "`--learning-rate 0`: must be above 0"),
        ("--learning-rate=-1", "`--learning-rate -1`: must be above 0"),
        ("--learning-rate nan", "`--learning-rate nan`: must be above 0"),
        ("--save-every 0", "`--save-every 0`: must be at least 1"),
        ("--out file/name/1", "--out file/name/1"),
        ("--out models/a:b/1", "\"a:b\" is no name"),
        ("--state file", "file/tensorboard"),
        ("--validation-share 1", "--validation-share is 1"),
        ("--data white --validation-share .5", "one has 1"),
        ("--data white", "no tile of domain one is half tissue"),
        ("--export best", "--export best needs images to validate on"),
    ] {
        let with = |option: &str, else_: &str| {
            if options.contains(option) { String::new() } else { format!("{option} {else_}") }
        };
        let (data, out, batch) =
            (with("--data", "tiles"), with("--out", "models/never/1"), with("--batch", "4"));
        let refused = refusal(
            home,
            &format!("fit --preset tiny --device cpu --steps 40 {data} {out} {batch} {options}"),
        );
        assert!(refused.contains(said), "{options}: {refused}");
    }
    assert!(!home.join("models/never/1").exists());
}

#[test]
fn what_is_printed_reads_back_to_itself_for_every_task() {
    let home = tempfile::tempdir().unwrap();
    let print = |arguments: &str| {
        let output = restain_train(home.path(), &format!("{arguments} --print-config")).output();
        let output = output.unwrap();
        assert!(
            output.status.success(),
            "{arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    for task in TASKS {
        let first = print(task);
        std::fs::write(home.path().join("printed.toml"), &first).unwrap();
        assert_eq!(print(&format!("{task} --config printed.toml")), first, "{task}");
    }
}

#[test]
fn a_pipe_gets_no_colour_codes() {
    let home = tempfile::tempdir().unwrap();
    for task in TASKS {
        let help = restain_train(home.path(), &format!("{task} --help")).output().unwrap().stdout;
        let help = String::from_utf8(help).unwrap();
        assert!(!help.contains('\x1b') && help.contains("Configuration:"), "{task}: {help}");
    }
    let phantom = "phantom --out tiles --tiles-per-domain 2 --hospitals 1 --size 48";
    let log = String::from_utf8(run(home.path(), phantom).stderr).unwrap();
    assert!(log.contains("tiles written") && !log.contains('\x1b'), "{log}");
}

const TASKS: [&str; 10] = [
    "fit",
    "resume",
    "export",
    "import",
    "init",
    "fp16",
    "styles",
    "evaluate",
    "evaluate --downstream",
    "phantom",
];

/// Flags of torchrun, of benches/ablation.py and of the server, which the texts name too.
const OTHERS: [&str; 5] = ["--no-python", "--left-out", "--folds", "--models", "--coarsest"];

/// Its flags, from what `--help` prints of every task.
fn known_flags(home: &std::path::Path) -> std::collections::BTreeSet<String> {
    let help =
        |task: &&str| restain_train(home, &format!("{task} --help")).output().unwrap().stdout;
    TASKS.iter().flat_map(|task| flags(&String::from_utf8(help(task)).unwrap())).collect()
}

fn flags(text: &str) -> Vec<String> {
    let ends = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    let words = text
        .split(ends)
        .filter(|word| word.starts_with("--") && word.len() > 2 && !word.starts_with("---"));
    words.map(str::to_owned).collect()
}

#[test]
fn every_flag_that_the_text_on_training_names_exists() {
    let home = tempfile::tempdir().unwrap();
    let known = known_flags(home.path());
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for document in ["docs/training.md", "docs/results.md"] {
        let named = flags(&std::fs::read_to_string(root.join(document)).unwrap());
        assert!(named.len() > 10, "{document} names {named:?}");
        let unknown: Vec<_> = named
            .iter()
            .filter(|flag| !known.contains(*flag) && !OTHERS.contains(&flag.as_str()))
            .collect();
        assert!(unknown.is_empty(), "{document}: {unknown:?}");
    }
}
