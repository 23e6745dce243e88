//! What `restain-train evaluate` measures, on a bundle that was never trained: facts about the
//! measures, not the model.

use std::path::Path;

use serde_json::Value;

use super::fit::{refusal, restain_train, run};

/// Tiles are of 32 px, and mostly four of each hospital: a second or so.
const EVALUATE: &str =
    "evaluate --bundle models/noise/1 --data tiles --classifier-tiles 20 --classifier-epochs 2";

/// Two hospitals of 64 px images, and untrained weights.
fn prepare(home: &Path, hospitals: usize) {
    run(
        home,
        &format!(
            "phantom --out tiles --tiles-per-domain 4 --hospitals {hospitals} --size 64 --seed 3"
        ),
    );
    run(home, "init --preset tiny --out models/noise/1 --styles 2");
}

fn report(home: &Path, options: &str) -> Value {
    run(home, &format!("{EVALUATE} --tiles-per-domain 4 --json report.json {options}"));
    serde_json::from_slice(&std::fs::read(home.join("report.json")).unwrap()).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

const METHODS: [&str; 7] =
    ["vit", "color_match", "tone", "reinhard", "macenko", "hed_jitter", "identity"];

#[test]
fn what_is_left_alone_is_at_full_distance_and_unharmed_and_every_method_stands_beside_it() {
    let home = tempfile::tempdir().unwrap();
    prepare(home.path(), 2);
    let report = report(home.path(), "");
    assert_eq!(report["pairs"].as_array().unwrap().len(), 2);
    for pair in report["pairs"].as_array().unwrap() {
        let identity = &pair["identity"];
        let facts = ["left", "ssim", "dice", "anatomy_drift"].map(|name| number(&identity[name]));
        assert_eq!(facts, [1.0, 1.0, 1.0, 0.0]);
        assert_eq!(identity["distance"], pair["distance_before"]);
        assert!(number(&pair["color_match"]["left"]) < 0.7, "{}", pair["color_match"]);
        assert!(
            number(&pair["tone"]["left"]) < number(&pair["color_match"]["left"]),
            "{}",
            pair["tone"]
        );
        assert!(number(&pair["vit"]["anatomy_drift"]) > 0.0);
    }
    for method in METHODS {
        let taken = &report["mean"][method]["taken_for"];
        let shares: f64 =
            ["target", "source", "other"].iter().map(|name| number(&taken[name])).sum();
        assert!((shares - 1.0).abs() < 1e-9, "{method}: {taken}");
        assert!(number(&report["diversity"][method]["color_distance"]) >= 0.0);
    }
    assert_eq!(number(&report["diversity"]["identity"]["color_distance"]), 0.0);
    // One of every two images is learnt from, so half of the tiles can be judged.
    assert_eq!(report["judge"]["judged_tiles"], serde_json::json!([2, 2]));
    assert!(report["no_judge"].is_null());
}

#[test]
fn white_stays_white_where_no_stain_is_found_and_ink_stays_where_nothing_is_done() {
    let home = tempfile::tempdir().unwrap();
    prepare(home.path(), 2);
    let report = report(home.path(), "--methods macenko,identity,color-match");
    let failures = report["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 5 * 3);
    let of = |kind: &str, method: &str| {
        failures.iter().find(|f| f["kind"] == kind && f["method"] == method).unwrap()
    };
    assert_eq!(number(&of("white", "macenko")["level_change"]), 0.0);
    // A statistic of the whole tile takes white for tissue.
    assert!(number(&of("white", "color_match")["level_change"]) < -20.0);
    assert_eq!(number(&of("green ink", "identity")["ink_in_place"]), 1.0);
    assert!(number(&of("green ink", "color_match")["ink_in_place"]) < 1.0);
    assert!(report["mean"]["vit"].is_null());
}

#[test]
fn a_style_of_several_tokens_is_another_style_and_of_several_tiles_another_reference() {
    let home = tempfile::tempdir().unwrap();
    prepare(home.path(), 2);
    let left = |options: &str| {
        let report = report(home.path(), &format!("--methods vit,color-match {options}"));
        ["vit", "color_match"].map(|method| number(&report["mean"][method]["distance"]))
    };
    let (one, again, tokens, tiles) =
        (left(""), left(""), left("--style-tokens 5"), left("--style-tiles 3"));
    assert_eq!(one, again);
    assert!(tokens[0] != one[0] && tokens[1] == one[1], "{one:?} {tokens:?}");
    assert!(tiles[0] != one[0] && tiles[1] != one[1], "{one:?} {tiles:?}");
}

#[test]
fn the_page_holds_its_pictures_and_asks_for_nothing() {
    let home = tempfile::tempdir().unwrap();
    prepare(home.path(), 2);
    let hostile = home.path().join("tiles/<b>&");
    std::fs::rename(home.path().join("tiles/hospital_1"), hostile).unwrap();
    let output =
        run(home.path(), &format!("{EVALUATE} --tiles-per-domain 4 --html page.html --pairs"));
    assert!(String::from_utf8_lossy(&output.stdout).contains("| hospital_0 → <b>& | hed-jitter |"));
    let page = std::fs::read_to_string(home.path().join("page.html")).unwrap();
    // Eight matrices and five strips.
    assert_eq!(page.matches("src=\"data:image/png;base64,").count(), 13);
    assert_eq!(page.matches("src=").count(), 13);
    assert!(!page.contains("http") && !page.contains("<b>") && page.contains("&lt;b&gt;&amp;"));
    assert!(
        page[..400].contains("NOTE: this page embeds tiles")
            && page.contains("prefers-color-scheme: dark")
    );
    assert!(!page.contains("{{"), "everything is put in");
}

#[test]
fn one_domain_has_a_reconstruction_and_says_what_it_cannot_have() {
    let home = tempfile::tempdir().unwrap();
    prepare(home.path(), 1);
    let output = run(
        home.path(),
        &format!("{EVALUATE} --tiles-per-domain 9 --json report.json --html page.html"),
    );
    let (said, table) =
        (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert!(said.contains("no classifier of domains: there is one domain only"), "{said}");
    assert!(table.contains("| hospital_0 |") && !table.contains("| method | left |"), "{table}");
    let report: Value =
        serde_json::from_slice(&std::fs::read(home.path().join("report.json")).unwrap()).unwrap();
    assert!(report["mean"].is_null() && report["diversity"].is_null() && report["judge"].is_null());
    assert_eq!(report["reconstruction"].as_array().unwrap().len(), 1);
}

#[test]
fn fewer_tiles_than_asked_for_are_all_used_and_it_is_said() {
    let home = tempfile::tempdir().unwrap();
    prepare(home.path(), 2);
    let output = run(home.path(), &format!("{EVALUATE} --methods identity --tiles-per-domain 99"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains(
            "domain hospital_1 has 16 tiles, fewer than --tiles-per-domain 99: all are used"
        ),
        "{said}"
    );
}

#[test]
fn what_cannot_be_is_refused_in_a_line_that_names_it() {
    let home = tempfile::tempdir().unwrap();
    prepare(home.path(), 2);
    run(home.path(), "phantom --out others --tiles-per-domain 2 --hospitals 1 --size 64 --seed 4");
    for (options, said) in [
        ("--bundle models/none/1", "models/none/1"),
        ("--style-tokens 0", "`--style-tokens 0`: must be at least 1"),
        ("--variants 1", "`--variants 1`: must be at least 2"),
        ("--classifier-data others", "--classifier-data others has no images of domain hospital_1"),
        (
            "--classifier-data tiles",
            "--classifier-data tiles has no images of domain hospital_0 besides the evaluated ones",
        ),
    ] {
        let bundle = if options.contains("--bundle") { "" } else { "--bundle models/noise/1 " };
        let refused = refusal(
            home.path(),
            &format!("evaluate {bundle}--data tiles --tiles-per-domain 2 {options}"),
        );
        assert!(refused.contains(said), "{refused}");
    }
    let unknown =
        restain_train(home.path(), &format!("{EVALUATE} --methods vahadane")).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
}

#[test]
fn a_classifier_of_other_images_can_be_asked_about_every_tile() {
    let home = tempfile::tempdir().unwrap();
    prepare(home.path(), 2);
    run(home.path(), "phantom --out others --tiles-per-domain 3 --hospitals 2 --size 64 --seed 4");
    let report = report(home.path(), "--methods vit --classifier-data others");
    assert_eq!(report["judge"]["judged_tiles"], serde_json::json!([4, 4]));
    assert_eq!(report["judge"]["training_tiles"], 2 * 16);
    assert!(report["judge"]["trained_on"].as_str().unwrap().contains("images of others"));
}

#[test]
fn tiles_of_every_size_that_the_images_have_are_restained_at_that_size() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    run(home, "phantom --out tiles --tiles-per-domain 2 --hospitals 1 --size 256 --seed 3");
    run(home, "init --preset tiny --out models/noise/1 --styles 2");
    // A bundle of random weights that says that it knows .25 to .5 µm a pixel.
    run(home, "styles --bundle models/noise/1 --data tiles --mpp 0.25,0.5");
    let options = "--tiles-per-domain 1 --methods vit,macenko,identity --shrink 1,2 --mpp 0.5";
    let printed = run(home, &format!("{EVALUATE} {options} --json report.json")).stdout;
    let report: Value =
        serde_json::from_slice(&std::fs::read(home.join("report.json")).unwrap()).unwrap();
    let sizes = report["sizes"].as_array().unwrap();
    let rows: Vec<(u64, u64, &str, bool)> = sizes
        .iter()
        .map(|row| {
            let [shrink, side] = ["shrink", "side"].map(|name| row[name].as_u64().unwrap());
            let stated = row["mpp_stated"].as_bool().unwrap();
            (shrink, side, row["method"].as_str().unwrap(), stated)
        })
        .collect();
    let expected = [(1, 32), (1, 224), (1, 256), (2, 32)];
    let expected = expected.map(|(shrink, side)| {
        [("vit", false), ("vit", true), ("macenko", false)]
            .map(|(method, stated)| (shrink, side, method, stated))
    });
    assert_eq!(rows, expected.concat());
    for row in sizes {
        assert!(row["tiles"].as_u64().unwrap() > 0, "{row}");
        assert_eq!(number(&row["microns"]), 0.5 * number(&row["shrink"]), "{row}");
        for name in ["delta_e", "psnr_db", "sharpness", "grid"] {
            assert!(number(&row[name]) > 0.0, "{row}");
        }
    }
    // At .5 µm the model sees every pixel, with `mpp`; without, a quarter of them.
    let blur = |stated: bool| {
        let row = sizes.iter().find(|row| row["side"] == 256 && row["mpp_stated"] == stated);
        number(&row.unwrap()["sharpness"])
    };
    assert_ne!(blur(true), blur(false));
    let printed = String::from_utf8_lossy(&printed);
    assert!(printed.contains("| 256 | 0.5 |") && printed.contains("| 32 | 1 |"), "{printed}");
    assert!(printed.contains("vit with mpp"), "{printed}");
}
