//! Runs of `fit` on data sets: official splits, damaged images.

use super::*;

#[test]
fn fit_on_wilds_sees_the_training_centres_alone_and_says_so() {
    let home = tempfile::tempdir().unwrap();
    wilds(&home.path().join("camelyon17_v1.0"), false);
    let output = run(home.path(), &format!("{FIT} --data camelyon17_v1.0 --out models/wilds/1"));
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let first = log.lines().next().unwrap();
    assert!(
        first.contains(
            "9 images of 3 domains (center_0, center_3, center_4; official split train by default"
        ),
        "{first}"
    );
    assert!(
        first.contains(
            "6 steps of 4 tiles; tiles of 32 px, patches of 8 px, embedding 96, 2 blocks, 4 heads \
            on cpu; state in"
        ),
        "{first}"
    );
    assert_eq!(
        Bundle::open(&home.path().join("models/wilds/1")).unwrap().styles.domains,
        ["center_0", "center_3", "center_4"]
    );

    let asked = "--split train,id_val --exclude-domains center_3";
    let output =
        run(home.path(), &format!("{FIT} --data camelyon17_v1.0 {asked} --out models/wilds/2"));
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        log.contains("8 images of 2 domains (center_0, center_4; split train, id_val)"),
        "{log}"
    );
    let table = run(
        home.path(),
        "evaluate --bundle models/wilds/1 --data camelyon17_v1.0 --split val,test \
        --tiles-per-domain 2",
    )
    .stdout;
    assert!(
        String::from_utf8_lossy(&table).contains("| center_2 |")
            && !String::from_utf8_lossy(&table).contains("| center_0 |")
    );
}

/// Cuts an image in its middle, behind the header. Returns what it was.
fn damage(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    bytes
}

#[test]
fn a_damaged_image_is_named_counted_and_skipped() {
    let home = tempfile::tempdir().unwrap();
    run(home.path(), "phantom --out tiles --tiles-per-domain 6 --hospitals 2 --size 48 --seed 3");
    damage(&home.path().join("tiles/hospital_1/tumour/000001.png"));
    let log = run(home.path(), &format!("{FIT} --data tiles --out models/bad/1")).stderr;
    let log = String::from_utf8_lossy(&log).into_owned();
    let described: Vec<_> = log
        .lines()
        .filter(|line| line.contains("hospital_1/tumour/000001.png cannot be decoded"))
        .collect();
    // Once while it trains; the styles are then made from the data set opened anew.
    assert!(
        described.len() <= 2
            && described[0].contains("WARN")
            && described[0].ends_with("(damaged so far: 1)"),
        "{log}"
    );
    assert!(home.path().join("models/bad/1").exists());
}

#[test]
fn too_many_damaged_images_end_the_run_with_one_line_and_the_last_state() {
    let home = tempfile::tempdir().unwrap();
    run(home.path(), "phantom --out tiles --tiles-per-domain 30 --hospitals 2 --size 48 --seed 3");
    let fit = format!("{FIT} --data tiles --max-damaged 2 --validation-share 0 --out models/bad/1");
    let fit =
        fit.replace("--steps 6 ", "--steps 60 ").replace("--save-every 1 ", "--save-every 1000 ");
    let mut child = restain_train(home.path(), &fit).stderr(Stdio::piped()).spawn().unwrap();
    let (mut log, mut line) = (BufReader::new(child.stderr.take().unwrap()), String::new());
    log.read_line(&mut line).unwrap();
    assert!(
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success()
    );
    log.read_to_string(&mut line).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{line}");

    let tumours = ["17", "19", "21", "23", "25", "27", "29"]
        .map(|name| home.path().join(format!("tiles/hospital_1/tumour/0000{name}.png")));
    let whole = tumours.each_ref().map(|path| damage(path));
    let output = restain_train(home.path(), "resume runs/bad-1 --device cpu").output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{log}");
    let last: Vec<_> = log.lines().filter(|line| line.starts_with("restain-train:")).collect();
    assert!(last.len() == 1 && last[0].contains("hospital_1/tumour/"), "{log}");
    assert!(last[0].ends_with("damaged images so far: 3, and --max-damaged is 2"), "{log}");
    let step = Checkpoint::open(&home.path().join("runs/bad-1")).unwrap().header.step;
    assert!(
        last[0].contains(&format!("stopped at step {step}, whose state is in runs/bad-1: ")),
        "{log}"
    );

    tumours.iter().zip(whole).for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    run(home.path(), "resume runs/bad-1 --device cpu");
    assert!(home.path().join("models/bad/1").exists());
}
