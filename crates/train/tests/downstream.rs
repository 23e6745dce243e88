//! `evaluate --downstream`, from phantom tiles to figures.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use super::fit::{restain_train, run};

const QUICK: &str = "evaluate --downstream --data tiles --train-domains hospital_0,hospital_1 \
    --validation-domain hospital_2 --test-domains hospital_3 --epochs 1 --batch 8 --device cpu";

fn phantom(home: &Path) {
    run(home, "phantom --out tiles --tiles-per-domain 12 --hospitals 4 --size 48 --seed 3");
    run(home, "init --preset tiny --out models/tiny/1 --styles 4");
}

fn read(home: &Path, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(home.join(name)).unwrap()).unwrap()
}

/// The runs without how long they took.
fn runs(record: &Value) -> Vec<Value> {
    let mut runs = record["runs"].as_array().unwrap().clone();
    runs.iter_mut().for_each(|run| _ = run.as_object_mut().unwrap().remove("seconds").unwrap());
    runs
}

fn refused(home: &Path, arguments: &str) -> String {
    let Output { status, stderr, .. } = restain_train(home, arguments).output().unwrap();
    assert!(matches!(status.code(), Some(1 | 2)), "{arguments}");
    let message = String::from_utf8(stderr).unwrap().lines().last().unwrap_or_default().to_owned();
    message.strip_prefix("restain-train: ").unwrap_or_else(|| panic!("{message}")).to_owned()
}

#[test]
fn the_same_seeds_give_the_same_figures_however_many_run_at_once() {
    let home = tempfile::tempdir().unwrap();
    phantom(home.path());
    let all = format!("{QUICK} --bundle models/tiny/1 --seeds 2");
    let table = run(home.path(), &format!("{all} --json one.json --plot runs.svg")).stdout;
    run(home.path(), &format!("{all} --json two.json --jobs 2"));
    let (one, two) = (read(home.path(), "one.json"), read(home.path(), "two.json"));
    assert_eq!(runs(&one).len(), 2 * 5);
    assert_eq!(runs(&one), runs(&two));
    assert_eq!((&one["configuration"], &one["summary"]), (&two["configuration"], &two["summary"]));

    let table = String::from_utf8(table).unwrap();
    for method in ["none", "color-jitter", "hed-jitter", "color-match", "vit"] {
        assert!(table.contains(&format!("| {method} | ")), "{table}");
    }
    let svg = std::fs::read_to_string(home.path().join("runs.svg")).unwrap();
    assert_eq!((svg.matches("<circle").count(), svg.matches("class=\"mean ").count()), (10, 5));
    let of = |value: &Value| value.as_f64().unwrap();
    for against in one["summary"]["methods"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row["against"].as_array().unwrap())
    {
        assert!(of(&against["p_corrected"]) >= of(&against["p"]), "{against}");
    }
}

#[test]
fn an_interrupted_experiment_goes_on_without_running_again_what_is_recorded() {
    let home = tempfile::tempdir().unwrap();
    phantom(home.path());
    let some = format!("{QUICK} --methods none,hed-jitter --seeds 2 --json record.json");
    run(home.path(), &some);
    let whole = read(home.path(), "record.json");
    let mut part = whole.clone();
    part["runs"].as_array_mut().unwrap().truncate(2);
    // A figure that no run can give: it stays only where nothing is run again.
    part["runs"][0]["tests"][0]["accuracy"] = 7.into();
    std::fs::write(home.path().join("record.json"), part.to_string()).unwrap();
    run(home.path(), &some);
    let gone_on = read(home.path(), "record.json");
    assert_eq!(gone_on["runs"][0]["tests"][0]["accuracy"], 7.0);
    assert_eq!(runs(&gone_on)[1..], runs(&whole)[1..]);

    // More seeds and methods join it; other training does not.
    run(
        home.path(),
        &format!("{QUICK} --methods none,vit --bundle models/tiny/1 --seeds 1 --json record.json"),
    );
    assert_eq!(runs(&read(home.path(), "record.json")).len(), 5);
    let message = refused(home.path(), &format!("{some} --learning-rate 0.5"));
    assert!(message.contains("another experiment, which differs in learning_rate"), "{message}");
}

#[test]
fn target_styles_are_tiles_of_the_test_domain_that_are_not_tested() {
    let home = tempfile::tempdir().unwrap();
    phantom(home.path());
    let methods =
        "rand-stain-na,color-match,color-match-target,vit,vit-spread,vit-target,vit-worst";
    let all = format!("{QUICK} --bundle models/tiny/1 --seeds 1 --json record.json");
    let targets = "--target-styles 4 --against vit,color-match";
    let table = run(home.path(), &format!("{all} --methods {methods} {targets}")).stdout;
    let table = String::from_utf8(table).unwrap();
    assert!(table.contains("| − vit (p) | − color-match (p) |"), "{table}");
    let record = read(home.path(), "record.json");
    let row = |n: usize| &record["summary"]["methods"][n];
    for (n, method) in methods.split(',').enumerate() {
        assert_eq!(row(n)["method"], *method);
        assert!(table.contains(&format!("| {method} | ")), "{table}");
    }
    assert_eq!(row(6)["against"].as_array().unwrap().len(), 2);
    assert_eq!(row(3)["against"][0]["baseline"], "color-match");
    let configuration = &record["configuration"];
    assert_eq!(configuration["target_styles"], 4);
    assert_eq!(
        (&configuration["spread"], &configuration["worst_radius"]),
        (&1.8.into(), &1.0.into())
    );

    // Another spread is another experiment, but not to methods that do not draw by it.
    let other = format!("{all} --target-styles 4 --spread 2.5 --methods");
    run(home.path(), &format!("{other} vit"));
    let message = refused(home.path(), &format!("{other} vit-spread"));
    assert!(message.contains("another experiment, which differs in spread: "), "{message}");
    let message = refused(home.path(), &format!("{all} --methods vit --target-styles 5"));
    assert!(message.contains("differs in target_styles, tiles: "), "{message}");
    assert_eq!(read(home.path(), "record.json")["configuration"]["spread"], 1.8);
}

#[test]
fn a_table_of_images_is_a_data_set_as_its_folders_are() {
    let home = tempfile::tempdir().unwrap();
    phantom(home.path());
    let mut table = "hospital,diagnosis,file,domain\n".to_owned();
    for hospital in 0..4 {
        for label in ["normal", "tumour"] {
            let folder = format!("hospital_{hospital}/{label}");
            for entry in std::fs::read_dir(home.path().join("tiles").join(&folder)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                table += &format!("-,{label}, {folder}/{name},hospital_{hospital}\n");
            }
        }
    }
    std::fs::write(home.path().join("table.csv"), table).unwrap();
    let all = format!("{QUICK} --methods none --seeds 1");
    run(home.path(), &format!("{all} --json folders.json"));
    let named = "--manifest table.csv --label-column diagnosis --json table.json";
    run(home.path(), &format!("{all} {named}"));
    let [folders, table] = ["folders.json", "table.json"].map(|name| read(home.path(), name));
    assert_eq!(runs(&table), runs(&folders));
    assert_eq!(table["configuration"], folders["configuration"]);
    let message = refused(home.path(), &format!("{all} --manifest table.csv --label-column grade"));
    assert!(message.contains("--label-column: table.csv has no column \"grade\""), "{message}");
}

#[test]
fn a_hospital_that_was_not_trained_on_is_harder() {
    let home = tempfile::tempdir().unwrap();
    run(home.path(), "phantom --out tiles --tiles-per-domain 100 --hospitals 5 --size 48 --seed 3");
    let options = "--train-domains hospital_0 --test-domains \
        hospital_1,hospital_2,hospital_3,hospital_4 --methods none --seeds 2";
    run(
        home.path(),
        &format!(
            "evaluate --downstream --data tiles {options} --epochs 8 --batch 16 --device cpu \
            --json record.json"
        ),
    );
    let row = &read(home.path(), "record.json")["summary"]["methods"][0];
    let (own, worst) =
        (row["validation"]["mean"].as_f64().unwrap(), row["worst"]["mean"].as_f64().unwrap());
    assert!(own > 0.8 && worst < own - 0.1, "{row}");
}

#[test]
fn what_cannot_be_meant_is_refused_in_one_line() {
    let home = tempfile::tempdir().unwrap();
    phantom(home.path());
    let folders = ["bare/a", "single/b/normal", "single/c/normal"];
    folders.iter().for_each(|folder| std::fs::create_dir_all(home.path().join(folder)).unwrap());
    for (i, entry) in
        std::fs::read_dir(home.path().join("tiles/hospital_0/normal")).unwrap().take(2).enumerate()
    {
        let tile = entry.unwrap().path();
        folders.iter().for_each(|folder| {
            _ = std::fs::copy(&tile, home.path().join(folder).join(format!("{i}.png"))).unwrap()
        });
    }
    let message = |options: &str| {
        refused(
            home.path(),
            &format!("evaluate --downstream --methods none --device cpu {options}"),
        )
    };
    let cases = [
        (
            "--data tiles --train-domains hospital_0 --test-domains hospital_9",
            "no domain \"hospital_9\" in tiles (hospital_0, hospital_1,",
        ),
        (
            "--data tiles --train-domains hospital_0 --test-domains hospital_0",
            "--test-domains: hospital_0 is trained on",
        ),
        (
            "--data tiles --train-domains hospital_0 --validation-domain hospital_1 --test-domains \
            hospital_1",
            "hospital_1 chooses the epoch (--validation-domain)",
        ),
        (
            "--data tiles --train-domains hospital_0,hospital_0 --test-domains hospital_1",
            "--train-domains names hospital_0 twice",
        ),
        ("--data bare --train-domains a --test-domains b", "bare has no labels"),
        ("--data single --train-domains b --test-domains c", "all 1 training tiles are normal"),
        (
            "--data tiles --train-domains hospital_0 --test-domains hospital_1 --epochs 0",
            "`--epochs 0`: must be at least 1",
        ),
        (
            "--data tiles --train-domains hospital_0 --test-domains hospital_1 --only \
            hospital_0/normal/0.png",
            "hospital_0/normal/0.png is not an image of tiles",
        ),
        (
            "--data tiles --train-domains hospital_0 --test-domains hospital_1 --methods vit",
            "--bundle is needed for vit",
        ),
        (
            "--data tiles --train-domains hospital_0 --test-domains hospital_1 --methods \
            vit-jitter",
            "--bundle is needed for vit-jitter",
        ),
        (
            "--data tiles --train-domains hospital_0 --test-domains hospital_1 --methods \
            color-match",
            "--bundle is needed for color-match with --styles bank",
        ),
        (
            "--data tiles --train-domains hospital_0 --test-domains hospital_1 --methods \
            rand-stain-na",
            "--bundle is needed for rand-stain-na with --styles bank",
        ),
        (
            "--data tiles --train-domains hospital_0 --test-domains hospital_1 --methods \
            color-match-target",
            "--target-styles is needed for color-match-target",
        ),
        (
            "--data tiles --train-domains hospital_0 --test-domains hospital_1 --target-styles 12",
            "--target-styles 12: hospital_1 has 12 tiles",
        ),
        (
            "--data tiles --train-domains hospital_0 --test-domains hospital_1 --against \
            none,hed-jitter",
            "--against: hed-jitter is not among --methods (none)",
        ),
        (
            "--data tiles --train-domains hospital_0 --test-domains hospital_1 --spread 3.5",
            "`--spread 3.5`: must be",
        ),
    ];
    for (options, expected) in cases {
        let message = message(options);
        assert!(message.contains(expected), "{options}: {message}");
    }
    let status =
        restain_train(home.path(), "evaluate --downstream --data tiles").output().unwrap().status;
    assert_eq!(status.code(), Some(2));
}
