//! The HTML page of a report: what it shows, and that no text out of a file becomes part of its markup.

use std::collections::BTreeSet;

use foehn_evaluate::{Outcome, Report};
use serde_json::{Value, json};

const TWO: &str = include_str!("../../../tests/page/report.json");
const THREE: &str = include_str!("../../../tests/page/three.json");

/// Markup, an end of every context that a text stands in, control characters, and a word of 400 letters.
fn hostile() -> String {
    format!("<img src=x onerror=alert(1)>\"'&</script>-->\u{1b}[31m\u{202e}\u{9b}\0{}", "w".repeat(400))
}

fn report(json: &str) -> Report {
    serde_json::from_str(json).unwrap()
}

/// An element's start or end.
#[derive(Debug)]
struct Tag {
    name: String,
    attributes: Vec<(String, String)>,
    is_end: bool,
    is_alone: bool,
}

/// The tags of a page, which must be written strictly: every attribute in double quotes, no `<` or `>` elsewhere.
fn tags(page: &str) -> Vec<Tag> {
    let body = page.strip_prefix("<!DOCTYPE html>\n").unwrap();
    let (before, style) = body.split_once("<style>").unwrap();
    let after = style.split_once("</style>").unwrap().1;
    let mut parts = [before, after].into_iter().flat_map(|text| text.split('<').skip(1)).map(|part| {
        let (tag, text) = part.split_once('>').unwrap_or_else(|| panic!("a tag has no end: {part}"));
        assert!(!text.contains('>'), "not escaped: {text}");
        tag
    });
    let mut found = Vec::new();
    for tag in &mut parts {
        let (tag, is_end) = tag.strip_prefix('/').map_or((tag, false), |tag| (tag, true));
        let (tag, is_alone) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
        let mut attributes = Vec::new();
        while !rest.trim().is_empty() {
            let (attribute, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("{tag}"));
            let (value, more) = value.split_once('"').unwrap();
            attributes.push((attribute.trim().to_owned(), value.to_owned()));
            rest = more;
        }
        found.push(Tag { name: name.to_owned(), attributes, is_end, is_alone });
    }
    found
}

/// Every element is one that the page uses, is closed, and closed in order; nothing comes from elsewhere.
#[track_caller]
fn check_markup(page: &str) {
    let elements: BTreeSet<&str> = "html head meta title style body header main footer section nav article a p span \
         small b i \
         code pre h1 h2 h3 h4 ul li dl dt dd div details summary table caption thead tbody tr th td br figure \
         figcaption svg \
         line circle rect path polyline"
        .split_whitespace()
        .collect();
    let mut open: Vec<String> = Vec::new();
    for tag in tags(page) {
        assert!(elements.contains(tag.name.as_str()), "{tag:?}");
        for (name, value) in &tag.attributes {
            assert!(!name.starts_with("on") && name != "src" && !value.contains("://"), "{tag:?}");
            assert!(name != "href" || value.starts_with('#'), "{tag:?}");
        }
        if tag.is_end {
            assert_eq!(open.pop().as_ref(), Some(&tag.name));
        } else if !tag.is_alone && tag.name != "meta" && tag.name != "br" {
            open.push(tag.name);
        }
    }
    // The style was cut out before.
    assert_eq!(open, Vec::<String>::new());
    assert!(!page.contains("url(") && !page.contains("@import") && !page.to_lowercase().contains("<script"));
    assert!(!page.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
    let ids =
        |page: &str| page.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect();
    let ids: Vec<String> = ids(page);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    for link in page.split("href=\"#").skip(1) {
        assert!(ids.contains(&link.split('"').next().unwrap().to_owned()), "a link leads nowhere");
    }
}

fn number(value: f64) -> String {
    if value.abs() >= 10.0 { format!("{value:.1}") } else { format!("{value:.3}") }
}

#[test]
fn the_examples_are_reports() {
    for json in [TWO, THREE] {
        // Nothing in them is unknown to the types, and nothing is left out.
        assert_eq!(serde_json::to_value(report(json)).unwrap(), serde_json::from_str::<Value>(json).unwrap());
    }
}

#[test]
fn every_figure_is_on_the_page() {
    for json in [TWO, THREE] {
        let report = report(json);
        let page = report.page();
        check_markup(&page);
        for task in &report.tasks {
            for figure in &task.figures {
                for value in &figure.values {
                    let [estimate, low, high] = [value.estimate, value.low, value.high].map(number);
                    assert!(page.contains(&format!("{estimate} <small>[{low}, {high}]</small>")), "{figure:?}");
                }
            }
            task.hashes.iter().for_each(|(file, hash)| assert!(page.contains(file) && page.contains(hash)));
            for run in task.runs.iter().filter_map(|run| run.reliability.as_ref()) {
                assert!(page.contains(&format!("ECE {}", number(run.ece))));
            }
            task.decoding.iter().for_each(|decoding| assert!(page.contains(decoding)));
        }
        report.runs.iter().for_each(|run| assert!(page.contains(run.as_str())));
        for key in report.about.keys().filter(|key| *key != "loss_curve") {
            assert!(page.contains(key.as_str()));
        }
    }
}

#[test]
fn the_title_is_the_verdict() {
    let title = |report: &Report| {
        let page = report.page();
        let (_, rest) = page.split_once("<h1").unwrap();
        rest.split_once("</h1>")
            .unwrap()
            .0
            .split("<span class=\"line\">")
            .skip(1)
            .map(|line| line.split('<').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let mut two = report(TWO);
    assert_eq!(
        title(&two),
        ["The adapter is better at held-out.jsonl and descriptions, and forgets nothing that these questions could \
             show."]
    );
    let mut outcomes = |all: [Outcome; 4]| {
        two.tasks.iter_mut().zip(all).for_each(|(task, outcome)| task.verdicts[0].outcome = outcome);
        title(&two).concat()
    };
    use Outcome::{Better, NoDifference, Worse};
    assert_eq!(
        outcomes([Worse, NoDifference, Worse, Worse]),
        "The adapter is worse at held-out.jsonl, shows no difference at descriptions, and forgets some of what the \
         base knew \
         (general questions and texts)."
    );
    assert_eq!(
        outcomes([NoDifference, NoDifference, Better, NoDifference]),
        "The adapter shows no difference at held-out.jsonl and descriptions, and forgets nothing that these questions \
         could \
         show."
    );
    let three = title(&report(THREE));
    assert!(three[0].starts_with("tickets-r8 is better at held-out.jsonl, and forgets nothing"), "{three:?}");
    assert!(three[1].ends_with("and forgets some of what the base knew (general questions and texts)."), "{three:?}");
}

/// A mark stands where its value is.
#[test]
fn pictures_are_to_scale() {
    let report = report(TWO);
    let page = report.page();
    let task = &report.tasks[0];
    let accuracy = task.figure("likelihood/accuracy", None).unwrap();
    for value in &accuracy.values {
        assert!(page.contains(&format!("<svg x=\"{:.2}%\"", 100.0 * value.estimate)));
        assert!(page.contains(&format!("x1=\"{:.2}%\" x2=\"{:.2}%\"", 100.0 * value.low, 100.0 * value.high)));
    }
    for bin in task.runs.iter().flat_map(|run| &run.reliability.as_ref().unwrap().bins).filter(|bin| bin.count > 0) {
        let (x, y) = (100.0 * bin.confidence, 100.0 - 100.0 * bin.accuracy);
        assert!(page.contains(&format!("cx=\"{x:.2}%\" cy=\"{y:.2}%\"")), "{bin:?}");
    }
    // The first point of validation is the highest of all, the last one at the last step.
    let curve = &report.about["loss_curve"]["validation"];
    let height = curve[6][1].as_f64().unwrap() / curve[0][1].as_f64().unwrap();
    assert!(page.contains("points=\"0.00,0.00 "));
    assert!(page.contains(&format!(" 100.00,{:.2}\"/>", 100.0 - 100.0 * height)));
}

#[test]
fn matrices_stand_side_by_side() {
    let report = report(TWO);
    let page = report.page();
    let task = &report.tasks[0];
    assert_eq!(page.matches("<table class=\"heat\"").count(), 6);
    for (by, title) in [("likelihood", "Confusion by likelihood"), ("generation", "Confusion of generated answers")] {
        let section = page.split_once(title).unwrap().1.split_once("<h3>").unwrap().0;
        let cells: Vec<u64> = section
            .split("<td")
            .skip(1)
            .map(|cell| cell.split_once('>').unwrap().1.split_once('<').unwrap().0.parse().unwrap())
            .collect();
        // The second run may have an answer to every question, and no column for those without.
        let width = (0..2).map(|run| task.confusion(run, by).unwrap()[0].len()).max().unwrap();
        assert_eq!(width, if by == "generation" { 5 } else { 4 });
        assert_eq!(section.contains(">none</span></th>"), by == "generation");
        let padded = (0..2).flat_map(|run| task.confusion(run, by).unwrap()).flat_map(|mut row| {
            row.resize(width, 0);
            row
        });
        assert_eq!(cells, padded.collect::<Vec<_>>());
    }
}

/// A slice stands below the figure that it is a slice of.
#[test]
fn slices_follow_their_figure() {
    let page = report(TWO).page();
    let table = page.split_once("<table class=\"figures\">").unwrap().1.split_once("</table>").unwrap().0;
    let rows: Vec<&str> =
        table.split("<th scope=\"row\">").skip(1).map(|row| row.split(['<', ' ']).next().unwrap()).collect();
    assert_eq!(rows[..4], ["accuracy", "mobile", "short", "macro-F1"]);
}

#[test]
fn changed_examples_are_shown_and_folded() {
    let report = report(TWO);
    let page = report.page();
    let task = &report.tasks[0];
    let verdict = &task.verdicts[0];
    for (items, what) in [(&verdict.gained, "from wrong to right"), (&verdict.lost, "from right to wrong")] {
        assert!(page.contains(&format!("{} of {}</span> {what}", items.len(), task.items.len())));
        items.iter().for_each(|item| assert!(page.contains(&format!("<code>{}</code>", task.items[*item].id))));
    }
    assert!(page.contains(&format!("<summary>{} more</summary>", verdict.gained.len() - 3)));
    assert!(page.contains("cut off at"));
    // A text of the general suite is long: its start is shown, and the whole is folded.
    let text = &report.tasks[3].items[report.tasks[3].verdicts[0].gained[0]].reference;
    let start: String = text.chars().take(100).collect();
    assert!(page.contains(&format!("<details><summary>{start}")));
}

fn each_text(value: &mut Value, key: &str, change: &dyn Fn(&mut String)) {
    match value {
        Value::String(text) if !["better", "outcome", "stop", "by"].contains(&key) => change(text),
        Value::Array(all) => all.iter_mut().for_each(|value| each_text(value, key, change)),
        Value::Object(all) => {
            let is_map = ["hashes", "about", "manifest"].contains(&key);
            for (name, mut value) in std::mem::take(all) {
                let mut changed = name.clone();
                if is_map && name != "loss_curve" {
                    change(&mut changed);
                }
                each_text(&mut value, &name, change);
                all.insert(changed, value);
            }
        }
        _ => {}
    }
}

#[test]
fn a_hostile_text_stays_a_text() {
    for json in [TWO, THREE] {
        for prefix in [false, true] {
            let mut value: Value = serde_json::from_str(json).unwrap();
            let hostile = hostile();
            each_text(&mut value, "", &|text| {
                *text = if prefix { format!("{hostile}{text}") } else { format!("{text}{hostile}") }
            });
            let page = serde_json::from_value::<Report>(value).unwrap().page();
            check_markup(&page);
            assert!(page.contains(
                "&lt;img src=x \
                 onerror=alert(1)&gt;&quot;&#x27;&amp;&lt;/script&gt;--&gt;\\u{1b}[31m\\u{202e}\\u{9b}\\u{0}"
            ));
        }
    }
}

/// Reports that no evaluation writes, but a file can hold.
#[test]
fn a_poor_report_has_a_page() {
    let mut alone = report(TWO);
    alone.runs.truncate(1);
    for task in &mut alone.tasks {
        task.verdicts.clear();
        task.runs.truncate(1);
        task.figures.iter_mut().for_each(|figure| {
            figure.values.truncate(1);
            figure.compared.clear();
        });
        task.classes.iter_mut().for_each(|class| {
            class.values.truncate(1);
            class.tests.clear();
        });
    }
    let page = alone.page();
    check_markup(&page);
    assert!(page.contains("<h1>SmolLM2-135M-Instruct, measured alone</h1>") && !page.contains("What changed"));

    let nothing = Report { suite: String::new(), runs: Vec::new(), tasks: Vec::new(), about: Default::default() };
    check_markup(&nothing.page());

    for curve in
        [json!(5), json!({}), json!({"training": [[1], "a", [1, "b"], null, [2, 3.0]]}), json!({"validation": 1})]
    {
        let mut report = nothing.clone();
        report.about.insert("loss_curve".to_owned(), curve);
        check_markup(&report.page());
    }

    // Every list in turn without its last elements.
    for left in 0..3 {
        for list in
            ["runs", "items", "measures", "sums", "counts", "classified", "predicted", "values", "compared", "labels"]
        {
            let mut value: Value = serde_json::from_str(TWO).unwrap();
            shorten(&mut value, list, left);
            check_markup(&serde_json::from_value::<Report>(value).unwrap().page());
        }
    }
}

fn shorten(value: &mut Value, list: &str, left: usize) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(|value| shorten(value, list, left)),
        Value::Object(all) => {
            for (key, value) in all {
                shorten(value, list, left);
                if let Value::Array(all) = value
                    && key == list
                {
                    all.truncate(left);
                }
            }
        }
        _ => {}
    }
}
