//! The report's HTML page: it is complete, shows texts from datasets as plain text, and is accessible.

mod common;

use common::Bench;
use foehn_corpus::{CleanConfig, CleanReport, Pipeline, clean_with};
use serde_json::json;

/// A report with every kind of problem, with texts that contain HTML.
fn report(bench: &Bench) -> CleanReport {
    let evil = "<script>alert(1)</script><img src=x onerror=\"alert(2)\"> & 'so on'";
    let lines = [
        json!({"id": evil, "prompt": evil, "completion": "It is a test of the page.", "label": "<i>&"}),
        json!({"id": "again", "prompt": evil, "completion": "IT IS A TEST of the page!", "label": "plain"}),
        json!({"id": "left", "prompt": "Is it so?", "completion": "Yes"}),
        json!({"id": "right", "prompt": "Is it so?", "completion": "No"}),
        json!({"id": "cut", "prompt": "Who is it?", "completion": format!("{evil} and the")}),
        json!({"id": "moji", "prompt": "Which “one”? ", "completion": "The cafÃ© by the sea."}),
        json!({"id": "turned", "prompt": "Which way\u{202e}?\u{0}", "completion": "Left."}),
        json!({"id": evil}),
    ];
    let mut text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    text.push_str("</td><script>broken\n");
    bench.write("raw<b>.jsonl", text);
    clean_with(&[bench.path("raw<b>.jsonl")], &Pipeline::default(), &CleanConfig::default()).expect("readable")
}

#[test]
fn texts_are_texts_and_elements_are_closed() {
    let bench = Bench::new();
    let page = report(&bench).to_html();
    for other in ["<script", "<img", "<b>.jsonl", "<i>", "http:", "https:", "url(", "@import", "<link"] {
        assert!(!page.contains(other), "{other}");
    }
    assert!(page.contains("&lt;script&gt;"), "the texts are shown");
    assert!(page.contains("default-src 'none'"));

    // Every opened element is closed, in order. Elements without an end tag are ignored.
    let mut open = Vec::new();
    let body = &page[page.find("<body>").expect("a body")..];
    for part in body.split('<').skip(1) {
        let (tag, _) = part.split_once('>').expect("every < begins a tag");
        let name = tag.split_whitespace().next().unwrap_or_default();
        for attribute in [" src", " on", " style", " srcset", " data="] {
            assert!(!tag.contains(attribute), "{tag}");
        }
        assert!(!tag.contains("href=") || tag.contains("href=\"#"), "{tag}");
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name).filter(|name| *name != "html"), "{part}");
        } else if !tag.ends_with('/') && name != "br" {
            open.push(name);
        }
    }
    // The page's own elements were opened before its body.
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn it_shows_what_happened_and_both_sides() {
    let bench = Bench::new();
    let report = report(&bench);
    let page = report.to_html();
    assert_eq!((report.read, report.kept, report.rejected), (9, 3, 6));
    for (pass, count) in [("read", 2), ("truncated", 1), ("duplicate", 1), ("conflict", 2)] {
        let found = report.passes.iter().find(|report| report.pass == pass).map(|report| report.rejected);
        assert_eq!(found, Some(count), "{pass}");
        assert!(page.contains(&format!("<b>{pass}</b>")), "{pass}");
    }
    // A duplicate is shown beside its original with the differences marked, and so are records in conflict.
    let duplicate = report.reasons.iter().find(|reason| reason.pass == "duplicate").expect("a reason");
    assert_eq!(duplicate.samples[0].text[1].text, "IT IS A TEST of the page!");
    assert_eq!(duplicate.samples[0].other[1].text, "It is a test of the page.");
    assert!(
        page.contains("<mark>IT</mark> <mark>IS</mark> <mark>A</mark> <mark>TEST</mark> of the page<mark>!</mark>")
    );
    assert!(page.contains("<mark>Yes</mark>") && page.contains("<mark>No</mark>"));
    // A repair shows the text before and after it, with invisible characters as code points.
    let repairs = report.repairs.iter().find(|repairs| repairs.pass == "mojibake").expect("a repair");
    assert_eq!(
        (repairs.changes[0].before.as_str(), repairs.changes[0].after.as_str()),
        ("The cafÃ© by the sea.", "The café by the sea.")
    );
    assert!(page.contains("U+202E") && page.contains("U+0000") && !page.contains('\u{202e}'));
    // A record that could not be read is shown unchanged.
    let unread = report.reasons.iter().find(|reason| reason.reason.starts_with("not JSON")).expect("a reason");
    assert_eq!(unread.samples[0].text[0].text, "</td><script>broken");
    // The JSON has the same content, for programs.
    let json: serde_json::Value = serde_json::to_value(&report).expect("JSON");
    assert_eq!(json["distributions"]["answer_characters"]["max"], 25);
    assert_eq!(json["reasons"][0]["pass"], "read");
    assert_eq!(report.distributions.labels[0].key, "label");
}

#[test]
fn a_page_is_written_whole() {
    let bench = Bench::new();
    let report = report(&bench);
    report.save_page(&bench.path("report.html")).expect("writable");
    report.save(&bench.path("report.json")).expect("writable");
    assert_eq!(bench.read("report.html"), report.to_html());
    assert!(bench.read("report.html").ends_with("</html>\n"));
    assert!(report.save_page(&bench.path("no/such/report.html")).is_err());
}

/// The relative luminance of a colour (WCAG 2.2, "relative luminance").
fn luminance(colour: &str) -> f64 {
    let channel = |from: usize| {
        let byte = u8::from_str_radix(&colour[from..from + 2], 16).expect("a colour of six figures");
        let share = f64::from(byte) / 255.0;
        if share <= 0.04045 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
}

fn contrast(one: &str, other: &str) -> f64 {
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

#[test]
fn its_colours_can_be_told_apart_by_day_and_by_night() {
    let page = report(&Bench::new()).to_html();
    let schemes: Vec<&str> =
        page.split(":root {").skip(1).map(|rest| rest.split('}').next().unwrap_or_default()).collect();
    assert_eq!(schemes.len(), 2);
    for scheme in schemes {
        let colour = |name: &str| {
            let at = scheme.find(&format!("--{name}: ")).unwrap_or_else(|| panic!("no --{name}"));
            &scheme[at + name.len() + 4..at + name.len() + 11]
        };
        // Text needs a contrast of 4.5 (1.4.3), and bars and lines with a meaning need 3 (1.4.11).
        let mut pairs = Vec::new();
        for ground in ["page", "card"] {
            pairs.extend(["text", "soft", "link", "lost"].map(|text| (text, ground, 4.5)));
            pairs.extend(["kept", "lost"].map(|bar| (bar, ground, 3.0)));
        }
        for ground in ["user", "assistant"] {
            pairs.extend(["text", "soft"].map(|text| (text, ground, 4.5)));
        }
        pairs.push(("mark-text", "mark", 4.5));
        pairs.extend(["kept", "lost"].map(|bar| (bar, "track", 3.0)));
        for (one, other, least) in pairs {
            let found = contrast(colour(one), colour(other));
            assert!(found >= least, "--{one} on --{other}: {found:.2}");
        }
    }
    // Black on white is the largest contrast there is.
    assert!((contrast("#000000", "#ffffff") - 21.0).abs() < 1e-9);
}
